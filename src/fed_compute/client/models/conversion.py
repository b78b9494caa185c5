"""Between a torch module and the files and facts that travel: its parameters, a torch file, what it takes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fed_compute.client.models.built_in import Linear, SimpleMLP, SmallCNN, TinyTransformer
from fed_compute.client.models.registry import build_plugin
from fed_compute.client.models.vectors import named_tensors, to_vector
from fed_compute.errors import SettingInvalid
from fed_compute.protocol.schema import Parameter, ParameterSchema, Vector


def to_state_dict_file(module: nn.Module) -> bytes:
    """Write a module's state dict as a file that `torch.load(file, weights_only=True)` reads: no code is in it.

    Whole-number buffers, which do not travel, have the values that a new module has. Nothing of the product
    reads such a file.
    """
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    return file.getvalue()


def parameters_of(module: nn.Module) -> tuple[ParameterSchema, Vector]:
    """Return what of a module travels: its schema, and its values as a flat vector, float32 (P,).

    Raises:
        JobFileInvalid: if its parameters cannot travel.
    """
    schema = ParameterSchema(
        tuple(Parameter(name, tuple(tensor.shape)) for name, tensor in named_tensors(module).items())
    )
    return schema, to_vector(module, schema)


def start_of_plugin(name: str, arguments: Mapping[str, Any], *, seed: int) -> tuple[ParameterSchema, Vector]:
    """Return a plug-in model's schema, and its first values as they follow from the seed, float32 (P,).

    Raises:
        ModelUnknown: if no such model is registered or installed, naming the nearest one.
        ModelMismatch: if it refuses the arguments.
        JobFileInvalid: if its parameters cannot travel.
    """
    return parameters_of(build_plugin(name, arguments, seed=seed))


def sample_shape(module: nn.Module, given: Sequence[int] | None) -> tuple[int, ...]:
    """Return the shape of one sample that a module takes: that of a built-in model, else the one that is given.

    Raises:
        SettingInvalid: if it is not known.
    """
    if given is not None:
        return tuple(given)
    match module:
        case Linear():
            return (module.output.in_features,)
        case SimpleMLP():
            return (module.input_dim,)
        case SmallCNN():
            return module.image
        case TinyTransformer():
            return (module.sequence_length * (1 if module.vocabulary else module.token_dim),)
    raise SettingInvalid("a plug-in model does not say what it takes; name the shape of one sample with --input-shape")


def random_samples(module: nn.Module, shape: Sequence[int], *, count: int) -> torch.Tensor:
    """Return samples of a shape, (count, *shape), always the same: normal values, tokens for a model of tokens."""
    generator = torch.Generator().manual_seed(count)
    if isinstance(module, TinyTransformer) and module.vocabulary is not None:
        return torch.randint(0, module.vocabulary, (count, *shape), generator=generator)
    return torch.randn(count, *shape, generator=generator)
