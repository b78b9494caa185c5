"""The built-in models as data: what parameters a model name and its arguments stand for.

The coordinator reads these to write version v1 without torch; the client builds a torch module of
the same name and checks it against the same schema. Parameter names are those of the module's
`state_dict`. A plug-in model has no entry here: its job brings its own schema and first version.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fed_compute.errors import JobFileInvalid
from fed_compute.protocol.schema import Parameter, ParameterSchema

Width = Annotated[int, Field(ge=1, le=1_000_000)]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class LinearArguments(_Arguments):
    """One affine layer: (N, input_dim) to (N, output_dim)."""

    input_dim: Width
    output_dim: Width


class SimpleMLPArguments(_Arguments):
    """Fully connected layers with ReLU between them: (N, input_dim) to (N, output_dim).

    `hidden_dim = 32` means two hidden layers of 32; `hidden = [128, 64]` names each layer. Without either it is 32.
    """

    input_dim: Width
    output_dim: Width
    hidden_dim: Width | None = None
    hidden: tuple[Width, ...] | None = Field(default=None, strict=False, max_length=2_000)

    @model_validator(mode="after")
    def _one_way_of_saying(self) -> Self:
        if self.hidden_dim is not None and self.hidden is not None:
            raise ValueError("give hidden_dim or hidden, not both")
        return self

    def widths(self) -> tuple[int, ...]:
        """Return the width of every layer, input and output included."""
        hidden = self.hidden if self.hidden is not None else (self.hidden_dim or 32,) * 2
        return (self.input_dim, *hidden, self.output_dim)


class SmallCNNArguments(_Arguments):
    """Two 3×3 convolutions (16 and 32 channels) with pooling, then 64 units, then classes.

    Takes images (N, channels, height, width), or the same values flat: (N, channels·height·width).
    """

    channels: Width = 1
    height: Annotated[int, Field(ge=4, le=1_000_000)]
    width: Annotated[int, Field(ge=4, le=1_000_000)]
    output_dim: Width


class TinyTransformerArguments(_Arguments):
    """A pre-norm transformer encoder over `sequence_length` tokens, mean-pooled to classes.

    With `vocabulary` the input is whole numbers (N, sequence_length); without it each token is a
    vector, input (N, sequence_length·token_dim) or (N, sequence_length, token_dim).
    """

    sequence_length: Width
    output_dim: Width
    token_dim: Width | None = None
    vocabulary: Width | None = None
    model_dim: Width = 32
    heads: Width = 4
    layers: Annotated[int, Field(ge=1, le=96)] = 2


def _dense(name: str, inputs: int, outputs: int) -> tuple[Parameter, Parameter]:
    """Weight and bias of an affine layer, both uniform within 1/sqrt(inputs)."""
    bound = inputs**-0.5
    return (
        Parameter(f"{name}.weight", (outputs, inputs), "uniform", bound),
        Parameter(f"{name}.bias", (outputs,), "uniform", bound),
    )


def _convolution(name: str, inputs: int, outputs: int) -> tuple[Parameter, Parameter]:
    bound = (inputs * 9) ** -0.5
    return (
        Parameter(f"{name}.weight", (outputs, inputs, 3, 3), "uniform", bound),
        Parameter(f"{name}.bias", (outputs,), "uniform", bound),
    )


def _layer_norm(name: str, width: int) -> tuple[Parameter, Parameter]:
    return Parameter(f"{name}.weight", (width,), "ones"), Parameter(f"{name}.bias", (width,), "zeros")


def _linear(arguments: LinearArguments) -> ParameterSchema:
    return ParameterSchema(_dense("output", arguments.input_dim, arguments.output_dim))


def _simple_mlp(arguments: SimpleMLPArguments) -> ParameterSchema:
    widths = arguments.widths()
    layers = [_dense(f"layers.{i}", widths[i], widths[i + 1]) for i in range(len(widths) - 1)]
    return ParameterSchema(tuple(parameter for layer in layers for parameter in layer))


def _small_cnn(arguments: SmallCNNArguments) -> ParameterSchema:
    flat = 32 * (arguments.height // 4) * (arguments.width // 4)
    return ParameterSchema(
        (
            *_convolution("conv1", arguments.channels, 16),
            *_convolution("conv2", 16, 32),
            *_dense("dense", flat, 64),
            *_dense("output", 64, arguments.output_dim),
        )
    )


def _tiny_transformer(arguments: TinyTransformerArguments) -> ParameterSchema:
    if (arguments.token_dim is None) == (arguments.vocabulary is None):
        raise JobFileInvalid("tiny_transformer needs either token_dim or vocabulary, not both and not none")
    if arguments.model_dim % arguments.heads:
        raise JobFileInvalid(f"model_dim {arguments.model_dim} is not a multiple of heads {arguments.heads}")
    width = arguments.model_dim
    if arguments.vocabulary is not None:
        parameters = [Parameter("embedding.weight", (arguments.vocabulary, width), "normal", 0.02)]
    else:
        parameters = [*_dense("embedding", arguments.token_dim or 1, width)]
    parameters.append(Parameter("position", (arguments.sequence_length, width), "normal", 0.02))
    for i in range(arguments.layers):
        block = f"blocks.{i}"
        parameters += _layer_norm(f"{block}.norm1", width)
        parameters += _dense(f"{block}.attention_in", width, 3 * width)
        parameters += _dense(f"{block}.attention_out", width, width)
        parameters += _layer_norm(f"{block}.norm2", width)
        parameters += _dense(f"{block}.feed1", width, 4 * width)
        parameters += _dense(f"{block}.feed2", 4 * width, width)
    parameters += _layer_norm("norm", width)
    parameters += _dense("output", width, arguments.output_dim)
    return ParameterSchema(tuple(parameters))


BUILT_IN: Mapping[str, tuple[type[_Arguments], Callable[[Any], ParameterSchema]]] = {
    "linear": (LinearArguments, _linear),
    "simple_mlp": (SimpleMLPArguments, _simple_mlp),
    "small_cnn": (SmallCNNArguments, _small_cnn),
    "tiny_transformer": (TinyTransformerArguments, _tiny_transformer),
}
"""Built-in model name → (its arguments, the function from arguments to schema)."""


def built_in_schema(name: str, arguments: Mapping[str, object]) -> ParameterSchema:
    """Return the parameters of a built-in model.

    Raises:
        JobFileInvalid: if the model is not built in, or its arguments do not fit it.
    """
    if name not in BUILT_IN:
        raise JobFileInvalid(
            f"model {name[:80]!r} is not built in ({', '.join(sorted(BUILT_IN))}); "
            "a plug-in model's job must bring its parameter schema and first version"
        )
    arguments_type, to_schema = BUILT_IN[name]
    try:
        return to_schema(arguments_type.model_validate(dict(arguments)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = list(arguments_type.model_fields)
        nearest = difflib.get_close_matches(where, known, n=1) if first["type"] == "extra_forbidden" else []
        hint = f", did you mean {nearest[0]!r}?" if nearest else ";"
        raise JobFileInvalid(
            f"model.args.{where} of {name}: {_wrong(first)}{hint} {name} takes {', '.join(known)}",
            key=f"model.args.{where}",
        ) from error


def _wrong(problem: Mapping[str, Any]) -> str:
    """Say what is wrong with an argument."""
    match problem["type"]:
        case "extra_forbidden":
            return "there is no such argument"
        case "missing":
            return "it is missing and has to be given"
    return str(problem["msg"])
