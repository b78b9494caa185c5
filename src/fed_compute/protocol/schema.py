"""Parameters of a model as data: names, shapes, initial values, and the flat vector they form.

A model's parameters travel as one little-endian float32 vector. The schema says where in that
vector each named tensor lies: in the schema's order, each tensor in C order, no gaps.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from fed_compute.errors import JobFileInvalid, UpdateShapeMismatch, UpdateTensorMismatch
from fed_compute.ids import Digest

Vector = npt.NDArray[np.float32]
InitialKind = Literal["zeros", "ones", "uniform", "normal"]

PARAMETER_NAME_RULE = "1 to 160 characters: letters, digits, dot, dash, underscore, slash, colon; no leading __"
_PARAMETER_NAME = re.compile(r"(?!__)[A-Za-z0-9._/:-]{1,160}", re.ASCII)  # __metadata__ is safetensors' own word
_MAX_DIMENSIONS = 16
_MAX_PARAMETERS = 2**32 - 1  # places in a vector travel as uint32
_MAX_NAMES_BYTES = 2**20  # each tensor takes its name and less than 256 bytes of a 1 MiB file header


@dataclass(frozen=True, slots=True)
class Parameter:
    """One tensor: its name, its shape, and how its first value is drawn.

    `scale` is the bound of `uniform` (drawn from [-scale, scale)) or the standard deviation of
    `normal`; `zeros` and `ones` ignore it.
    """

    name: str
    shape: tuple[int, ...]
    initial: InitialKind = "zeros"
    scale: float = 0.0

    def __post_init__(self) -> None:
        if _PARAMETER_NAME.fullmatch(self.name) is None:
            raise JobFileInvalid(f"parameter name {self.name[:80]!r} is not usable: {PARAMETER_NAME_RULE}")
        if len(self.shape) > _MAX_DIMENSIONS or not all(1 <= length <= _MAX_PARAMETERS for length in self.shape):
            raise JobFileInvalid(
                f"parameter {self.name!r} is not shaped for travel; "
                f"wanted at most {_MAX_DIMENSIONS} dimensions, each from 1 to {_MAX_PARAMETERS}"
            )
        if self.initial not in get_args(InitialKind):
            raise JobFileInvalid(
                f"parameter {self.name!r} starts as {self.initial!r:.40}, wanted one of {get_args(InitialKind)}"
            )
        if not 0 <= self.scale <= 1e30:
            raise JobFileInvalid(f"parameter {self.name!r} has scale {self.scale}, wanted a number from 0 to 1e30")

    @property
    def size(self) -> int:
        """Number of values in the tensor."""
        return math.prod(self.shape)


@dataclass(frozen=True)  # no slots: what it is asked for each update is worked out once
class ParameterSchema:
    """The tensors of one model, in the order in which they lie in the flat vector."""

    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        names = [parameter.name for parameter in self.parameters]
        if not names or len(set(names)) != len(names):
            raise JobFileInvalid("a model needs at least one parameter, and each name only once")
        if sum(len(name) + 256 for name in names) > _MAX_NAMES_BYTES:
            raise JobFileInvalid(f"the model has {len(names)} tensors; their names do not fit a model file's header")
        if self.num_parameters > _MAX_PARAMETERS:
            raise JobFileInvalid(f"the model has {self.num_parameters} values, at most {_MAX_PARAMETERS} can travel")

    @cached_property
    def num_parameters(self) -> int:
        """Number of values in the flat vector (P in the docstrings of this project)."""
        return sum(parameter.size for parameter in self.parameters)

    def digest(self) -> Digest:
        """Return the SHA-256 of names and shapes. Initial values do not count."""
        return self._digest

    @cached_property
    def _digest(self) -> Digest:
        text = json.dumps([[p.name, list(p.shape)] for p in self.parameters], separators=(",", ":"))
        return Digest(hashlib.sha256(text.encode()).hexdigest())

    def split(self, vector: Vector) -> dict[str, Vector]:
        """Cut a flat vector, shape (P,), into named tensors. The tensors are views, not copies.

        Raises:
            UpdateShapeMismatch: if the vector is not of shape (P,).
        """
        if vector.shape != (self.num_parameters,):
            raise UpdateShapeMismatch("vector", got=vector.shape, want=(self.num_parameters,))
        tensors, offset = {}, 0
        for parameter in self.parameters:
            tensors[parameter.name] = vector[offset : offset + parameter.size].reshape(parameter.shape)
            offset += parameter.size
        return tensors

    def join(self, tensors: Mapping[str, npt.NDArray[np.floating]]) -> Vector:
        """Lay named tensors into one new flat float32 vector, shape (P,).

        Raises:
            UpdateTensorMismatch: if a tensor is missing or unknown.
            UpdateShapeMismatch: if a tensor has another shape than the schema says.
        """
        wanted = {parameter.name for parameter in self.parameters}
        if tensors.keys() != wanted:
            missing, unknown = sorted(wanted - tensors.keys()), sorted(tensors.keys() - wanted)
            raise UpdateTensorMismatch(
                f"missing tensors {missing[:5]}, unknown tensors {[name[:80] for name in unknown[:5]]}; "
                f"the model has {sorted(wanted)[:20]}"
            )
        vector = np.empty(self.num_parameters, dtype="<f4")
        for name, target in self.split(vector).items():
            if tensors[name].shape != target.shape:
                raise UpdateShapeMismatch(name, got=tensors[name].shape, want=target.shape)
            target[...] = tensors[name]
        return vector

    def to_json(self) -> list[dict[str, object]]:
        """Return the schema as plain data; `from_json` reads it back."""
        return [
            {"name": p.name, "shape": list(p.shape), "initial": p.initial, "scale": p.scale} for p in self.parameters
        ]

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, object]]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            JobFileInvalid: if the data is not a schema.
        """
        return cls(tuple(_parameter_from_json(item) for item in data))


def _parameter_from_json(item: object) -> Parameter:
    known = {"name", "shape", "initial", "scale"}
    match item:
        case {"name": str() as name, "shape": list() as shape, **others} if others.keys() <= known:
            initial, scale = others.get("initial", "zeros"), others.get("scale", 0.0)
            if all(type(n) is int for n in shape) and isinstance(initial, str) and type(scale) in (int, float):
                return Parameter(name, tuple(shape), initial, scale)  # type: ignore[arg-type]
    raise JobFileInvalid(
        f"the parameter schema holds {item!r:.200}; "
        "wanted objects with name (text), shape (list of whole numbers), initial (text) and scale (number)"
    )


def draw_initial(schema: ParameterSchema, *, seed: int) -> Vector:
    """Draw the parameters of version v1, shape (P,), float32.

    Each tensor has its own PCG64 stream derived from `seed` and its place, so the same seed gives
    the same bytes on every machine, and adding a tensor does not change the others.
    """
    vector = np.empty(schema.num_parameters, dtype="<f4")
    for place, (parameter, target) in enumerate(zip(schema.parameters, schema.split(vector).values(), strict=True)):
        stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, place])))
        match parameter.initial:
            case "zeros":
                target[...] = 0.0
            case "ones":
                target[...] = 1.0
            case "uniform":
                target[...] = (2.0 * stream.random(parameter.shape) - 1.0) * parameter.scale
            case "normal":
                target[...] = stream.standard_normal(parameter.shape) * parameter.scale
    return vector
