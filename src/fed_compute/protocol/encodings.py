"""How the values of an update are written: exact, in fewer bits, or only the largest.

Each encoding says which tensors it makes, which it expects, and how it reads them back. None of
them judges the values: a NaN that arrives is a NaN in the decoded vector, and the validator refuses it.
Lossy encodings want an error-feedback residual on the client, so that what is lost in one round is
sent in a later one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, assert_never

import numpy as np
import numpy.typing as npt

from fed_compute.errors import UpdateMalformed, UpdateNotFinite
from fed_compute.protocol.container import Tensor, TensorSpec
from fed_compute.protocol.job import Encoding
from fed_compute.protocol.schema import Vector

INT8_BLOCK = 1024
"""Values of `int8` that share one scale."""

_CHUNK = 64 * INT8_BLOCK
_F16_MAX = np.float32(np.finfo(np.float16).max)
_SCALE_MAX = np.nextafter(np.finfo(np.float32).max / np.float32(127), np.float32(0))
_BF16_MAX = np.array([0x7F7F0000], dtype="<u4").view("<f4")[0]


class UpdateEncoding(Protocol):
    """One way to write a flat vector of P float32 values as named tensors."""

    @property
    def name(self) -> Encoding: ...

    def tensors(self, delta: Vector, rng: np.random.Generator | None) -> dict[str, Tensor]:
        """Write `delta`, float32 (P,). Only a rounding encoding draws from `rng`.

        Raises:
            UpdateNotFinite: if a lossy encoding meets NaN or an infinity; `f32` writes them as they are.
            ValueError: if a rounding encoding has nothing to draw from.
        """
        ...

    def expected(self, num_parameters: int) -> dict[str, TensorSpec]:
        """Return the tensors that a vector of this length becomes, in the order they are written."""
        ...

    def delta(self, tensors: Mapping[str, Tensor], *, num_parameters: int) -> Vector:
        """Read tensors that match `expected(num_parameters)` back into a float32 vector (P,)."""
        ...


@dataclass(frozen=True, slots=True)
class Float32:
    """The values themselves, 4 bytes each. Reading copies nothing."""

    name: ClassVar[Encoding] = "f32"

    def tensors(self, delta: Vector, rng: np.random.Generator | None) -> dict[str, Tensor]:
        return {"delta": delta.astype("<f4", copy=False)}

    def expected(self, num_parameters: int) -> dict[str, TensorSpec]:
        return {"delta": TensorSpec("F32", (num_parameters,))}

    def delta(self, tensors: Mapping[str, Tensor], *, num_parameters: int) -> Vector:
        return tensors["delta"]


@dataclass(frozen=True, slots=True)
class BFloat16:
    """The upper 16 bits of each value, rounded to the nearest, ties to even. Keeps the range, 8 bits of precision."""

    name: ClassVar[Encoding] = "bf16"

    def tensors(self, delta: Vector, rng: np.random.Generator | None) -> dict[str, Tensor]:
        _require_finite(delta)
        bits = np.clip(delta, -_BF16_MAX, _BF16_MAX).astype("<f4", copy=False).view("<u4")
        rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
        return {"delta": rounded.astype("<u2")}

    def expected(self, num_parameters: int) -> dict[str, TensorSpec]:
        return {"delta": TensorSpec("BF16", (num_parameters,))}

    def delta(self, tensors: Mapping[str, Tensor], *, num_parameters: int) -> Vector:
        return (tensors["delta"].astype("<u4") << 16).view("<f4")


@dataclass(frozen=True, slots=True)
class Float16:
    """IEEE half precision, rounded to the nearest. Values beyond ±65504 are written as ±65504."""

    name: ClassVar[Encoding] = "f16"

    def tensors(self, delta: Vector, rng: np.random.Generator | None) -> dict[str, Tensor]:
        _require_finite(delta)
        return {"delta": np.clip(delta, -_F16_MAX, _F16_MAX).astype("<f2")}

    def expected(self, num_parameters: int) -> dict[str, TensorSpec]:
        return {"delta": TensorSpec("F16", (num_parameters,))}

    def delta(self, tensors: Mapping[str, Tensor], *, num_parameters: int) -> Vector:
        return tensors["delta"].astype("<f4")


@dataclass(frozen=True, slots=True)
class Int8:
    """Whole numbers from -127 to 127 with one float32 scale for every 1024 values.

    Rounding is stochastic (up with a probability equal to the fraction), so the decoded value is
    right on average: QSGD, Alistarh et al. 2017 (arXiv:1610.02132). The error of a value is below
    one scale, which is its block's largest magnitude / 127.
    """

    name: ClassVar[Encoding] = "int8"

    def tensors(self, delta: Vector, rng: np.random.Generator | None) -> dict[str, Tensor]:
        if rng is None:
            raise ValueError("int8 rounds by chance: it needs something to draw from")
        _require_finite(delta)
        quantised = np.empty(delta.size, dtype=np.int8)
        scales = np.empty(_num_blocks(delta.size), dtype="<f4")
        for start in range(0, delta.size, _CHUNK):
            part = delta[start : start + _CHUNK].astype(np.float64)
            scale = _scales(part)
            scales[start // INT8_BLOCK : start // INT8_BLOCK + scale.size] = scale
            per_value = np.repeat(scale.astype(np.float64), INT8_BLOCK)[: part.size]
            ratio = np.divide(part, per_value, out=np.zeros_like(part), where=per_value > 0)
            quantised[start : start + part.size] = np.clip(np.floor(ratio + rng.random(part.size)), -127, 127)
        return {"delta.scale": scales, "delta.q": quantised}

    def expected(self, num_parameters: int) -> dict[str, TensorSpec]:
        return {
            "delta.scale": TensorSpec("F32", (_num_blocks(num_parameters),)),
            "delta.q": TensorSpec("I8", (num_parameters,)),
        }

    def delta(self, tensors: Mapping[str, Tensor], *, num_parameters: int) -> Vector:
        per_value = np.repeat(tensors["delta.scale"], INT8_BLOCK)[:num_parameters]
        with np.errstate(over="ignore", invalid="ignore"):  # a hostile scale gives inf or NaN, refused later
            values: Vector = np.multiply(per_value, tensors["delta.q"], dtype="<f4")
        return values


@dataclass(frozen=True, slots=True)
class TopK:
    """The ceil(fraction · P) values of largest magnitude with their places; all others count as zero.

    Of equal magnitudes the earlier places are taken. Source: Aji and Heafield 2017 (arXiv:1704.05021).
    """

    name: ClassVar[Encoding] = "topk"
    fraction: float

    def tensors(self, delta: Vector, rng: np.random.Generator | None) -> dict[str, Tensor]:
        _require_finite(delta)
        kept, magnitude = self._num_kept(delta.size), np.abs(delta)
        threshold = np.partition(magnitude, delta.size - kept)[delta.size - kept]
        above = np.flatnonzero(magnitude > threshold)
        equal = np.flatnonzero(magnitude == threshold)[: kept - above.size]
        index = np.sort(np.concatenate([above, equal]))
        return {"delta.index": index.astype("<u4"), "delta.value": delta[index].astype("<f4")}

    def expected(self, num_parameters: int) -> dict[str, TensorSpec]:
        kept = self._num_kept(num_parameters)
        return {"delta.index": TensorSpec("U32", (kept,)), "delta.value": TensorSpec("F32", (kept,))}

    def delta(self, tensors: Mapping[str, Tensor], *, num_parameters: int) -> Vector:
        """Read the places and values into a new vector, float32 (P,).

        Raises:
            UpdateMalformed: if the places do not strictly increase, or one is outside the vector.
        """
        index = tensors["delta.index"]
        if not (index[1:] > index[:-1]).all():
            raise UpdateMalformed("delta.index must strictly increase")
        if index[-1] >= num_parameters:
            raise UpdateMalformed(f"delta.index names place {index[-1]}, the model has {num_parameters} values")
        vector = np.zeros(num_parameters, dtype="<f4")
        vector[index] = tensors["delta.value"]
        return vector

    def _num_kept(self, num_parameters: int) -> int:
        return min(num_parameters, max(1, math.ceil(self.fraction * num_parameters)))


def encoding_named(name: Encoding, *, topk_fraction: float) -> UpdateEncoding:
    """Return the encoding that a recipe names; `topk_fraction` matters to `topk` only."""
    match name:
        case "f32":
            return Float32()
        case "bf16":
            return BFloat16()
        case "f16":
            return Float16()
        case "int8":
            return Int8()
        case "topk":
            return TopK(topk_fraction)
        case _:
            assert_never(name)


def _require_finite(delta: Vector) -> None:
    finite = np.isfinite(delta)
    if not finite.all():
        raise UpdateNotFinite(count=int((~finite).sum()), first=int(np.argmin(finite)))


def _num_blocks(num_parameters: int) -> int:
    return -(-num_parameters // INT8_BLOCK)


def _scales(part: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return each block's scale, float32: the smallest that keeps value / scale within ±127, and 127 · scale finite."""
    largest = np.maximum.reduceat(np.abs(part), np.arange(0, part.size, INT8_BLOCK))
    scale = (largest / 127).astype("<f4")
    scale = np.where(scale.astype(np.float64) * 127 < largest, np.nextafter(scale, np.float32(np.inf)), scale)
    scale[scale > _SCALE_MAX] = _SCALE_MAX
    return scale
