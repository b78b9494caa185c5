"""From a recipe to a torch module, by name. Only models installed on this machine can run here."""

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import torch
from torch import nn

from fed_compute.client.models.built_in import BUILT_IN_MODULES
from fed_compute.client.models.vectors import named_tensors
from fed_compute.client.recipes import schema_of
from fed_compute.errors import JobFileInvalid, ModelMismatch, ModelUnknown, NameReserved
from fed_compute.protocol.architectures import BUILT_IN, built_in_schema
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.protocol.suggestions import did_you_mean

MODELS_GROUP = "fed_compute.models"
"""Entry point group of plug-in models: name → callable(**args) returning an `nn.Module`."""

Build = TypeVar("Build", bound=Callable[..., nn.Module])
_REGISTERED: dict[str, Callable[..., nn.Module]] = {}


def register_model(name: str) -> Callable[[Build], Build]:
    """Make a class or function the plug-in model `name` of this process; for use as a decorator.

    It is called with the `args` of the job's `[model]` and returns a new `nn.Module`. A package that brings a model
    declares an entry point in the group `fed_compute.models` instead. The last registration of a name counts, so a
    notebook's cell may run again.

    Raises:
        NameReserved: if a built-in model has the name.
    """
    if name in BUILT_IN:
        raise NameReserved("model", name, reserved=BUILT_IN)

    def register(build: Build) -> Build:
        _REGISTERED[name] = build
        return build

    return register


def registered_model(name: str) -> Callable[..., nn.Module] | None:
    """Return the class or function that this process registered under a name, None if it registered none."""
    return _REGISTERED.get(name)


def model_names() -> list[str]:
    """Return the names of all models that this machine can build, sorted."""
    return sorted({*BUILT_IN_MODULES, *_REGISTERED, *_plugins()})


def build_model(recipe: Recipe) -> nn.Module:
    """Build the recipe's model on the CPU and check that it has exactly the recipe's parameters.

    A built-in name always means the built-in model; a plug-in cannot replace it. The values of a
    new module are random: load the global vector before use.

    Raises:
        ModelUnknown: if no such model is installed, naming the nearest one and all installed ones.
        ModelMismatch: if the arguments or the parameters do not fit, naming the first difference.
    """
    return build_named(recipe.model, recipe.model_args, schema_of(recipe))


def build_named(name: str, arguments: Mapping[str, Any], schema: ParameterSchema) -> nn.Module:
    """Build a model by its name and arguments as `build_model` does; it has exactly the parameters of `schema`.

    Raises:
        ModelUnknown, ModelMismatch: as `build_model`.
    """
    module = _built_in(name, arguments, schema) if name in BUILT_IN_MODULES else _plugin(name, arguments)
    _check_shapes({key: tuple(tensor.shape) for key, tensor in named_tensors(module).items()}, name, schema)
    return module


def build_plugin(name: str, arguments: Mapping[str, Any], *, seed: int) -> nn.Module:
    """Build a plug-in model whose first values follow from `seed`, on the CPU. Other chance is left as it was.

    Raises:
        ModelUnknown, ModelMismatch: as `build_model`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _plugin(name, arguments)


def _plugin(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Build a plug-in model: one of this process, or one of an installed package."""
    build: Callable[..., object] | None = _REGISTERED.get(name)
    if build is None:
        if (point := _plugins().get(name)) is None:
            raise _unknown(name)
        build = point.load()
    try:
        module = build(**arguments)
    except (TypeError, ValueError) as error:
        raise ModelMismatch(f"plug-in model {name!r} refused the recipe's arguments: {error}") from error
    if not isinstance(module, nn.Module):
        raise ModelMismatch(f"plug-in model {name!r} made a {type(module).__name__}, wanted a torch nn.Module")
    return module


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=MODELS_GROUP) if point.name not in BUILT_IN}


def _built_in(name: str, arguments: Mapping[str, Any], wanted: ParameterSchema) -> nn.Module:
    try:
        schema = built_in_schema(name, arguments)
    except JobFileInvalid as error:
        raise ModelMismatch(f"the recipe's arguments do not fit model {name}: {error.message}") from error
    if schema.digest() != wanted.digest():  # before a module of any size is built
        _check_shapes({one.name: one.shape for one in schema.parameters}, name, wanted)
        raise ModelMismatch(f"the parameters of model {name!r} come in another order in the recipe")
    return BUILT_IN_MODULES[name](arguments)


def _unknown(name: str) -> ModelUnknown:
    installed = model_names()
    hint = did_you_mean(name, installed, cutoff=0.5)
    return ModelUnknown(
        f"model {name[:80]!r} is not installed on this machine{hint} installed: {', '.join(installed)}; "
        f"a package with an entry point in the group {MODELS_GROUP!r} adds one",
        got=name[:80],
        installed=installed,
    )


def _check_shapes(found: dict[str, tuple[int, ...]], model: str, schema: ParameterSchema) -> None:
    for parameter in schema.parameters:
        shape = found.pop(parameter.name, None)
        if shape != parameter.shape:
            here = "no such parameter" if shape is None else f"shape {list(shape)}"
            raise ModelMismatch(
                f"parameter {parameter.name[:80]!r} of model {model!r}: found {here} on this machine, "
                f"the job wants shape {list(parameter.shape)}"
            )
    if found:
        name = next(iter(found))
        raise ModelMismatch(
            f"model {model!r} has a parameter {name[:80]!r} of shape {list(found[name])} on this machine, "
            "the job has none of that name"
        )
