"""Arithmetic on flat vectors, in blocks, so that temporaries stay small beside the vectors themselves."""

import math
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from types import ModuleType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from fed_compute.errors import UpdateNotFinite, UpdateShapeMismatch

_ItemT = TypeVar("_ItemT")

Vector = npt.NDArray[np.float32]
"""Shape (P,), float32."""
Vector64 = npt.NDArray[np.float64]
"""Shape (P,), float64."""

BLOCK = 65_536
"""Values worked on at once: half a mebibyte in float64, which stays in the cache of one core."""

GROUP_BYTES = 4 << 20
"""Vectors that are handled together, in bytes: ten of 100 000 values, so that ten need the memory of any number."""

COMPILED_FROM = 16_384
"""Values from which on loops are compiled, where numba is installed. Loading it costs as much as 5 000 such vectors."""


def blocks(size: int, *, length: int = BLOCK) -> Iterator[slice]:
    """Cut 0 to `size` into slices of at most `length`."""
    for start in range(0, size, length):
        yield slice(start, min(start + length, size))


def groups(items: Iterable[_ItemT], *, num_parameters: int) -> Iterator[list[_ItemT]]:
    """Cut items that hold one vector each, float32 (P,), into groups of at most `GROUP_BYTES`, at least one in each.

    An item is asked for when its group is, and then none of the group before is kept here.
    """
    left, at_once = iter(items), max(1, GROUP_BYTES // (4 * num_parameters))
    while group := list(islice(left, at_once)):
        yield group
        del group


def compiled_loops(*vectors: npt.NDArray[np.floating]) -> ModuleType | None:
    """Return the module of compiled loops if they are there and made for all these vectors, else None."""
    return _load_compiled() if all(map(_is_for_loops, vectors)) else None


def _is_for_loops(vector: npt.NDArray[np.floating]) -> bool:
    is_plain = vector.dtype == np.float32 and vector.flags.c_contiguous and vector.flags.aligned
    return is_plain and vector.size >= COMPILED_FROM


@cache
def _load_compiled() -> ModuleType | None:
    try:
        from fed_compute.learning import compiled
    except ImportError:  # it is not installed, or not for this numpy
        return None
    return compiled


def require_shape(vector: npt.NDArray[np.floating], size: int, *, what: str) -> None:
    """Refuse what is not a flat vector of `size` values.

    Raises:
        UpdateShapeMismatch: naming `what`, with both shapes.
    """
    if vector.shape != (size,):
        raise UpdateShapeMismatch(what, got=vector.shape, want=(size,))


def require_float32(vector: npt.NDArray[np.floating], size: int, *, what: str) -> None:
    """Refuse what is not a flat vector of `size` float32 values.

    Raises:
        TypeError: if it is of another type; a wider one would be rounded without a word.
        UpdateShapeMismatch: naming `what`, with both shapes.
    """
    if vector.dtype != np.float32:
        raise TypeError(f"{what} must be float32, got {vector.dtype}")
    require_shape(vector, size, what=what)


def is_finite(vector: npt.NDArray[np.floating]) -> bool:
    """Say whether no value is NaN or infinite."""
    if loops := compiled_loops(vector):
        return bool(loops.all_finite(vector))
    return all(bool(np.isfinite(vector[part]).all()) for part in blocks(vector.size))


def non_finite(vector: npt.NDArray[np.floating]) -> tuple[int, int]:
    """Return how many values are NaN or infinite, and the place of the first (0 if there is none)."""
    count, first = 0, 0
    if is_finite(vector):
        return count, first
    for part in blocks(vector.size):
        finite = np.isfinite(vector[part])
        if not finite.all():
            first = first if count else part.start + int(np.argmin(finite))
            count += int(np.count_nonzero(~finite))
    return count, first


def require_finite(vector: Vector) -> None:
    """Refuse a vector that holds NaN or an infinity. Reads at several GB/s.

    Raises:
        UpdateNotFinite: with the number of such values and the place of the first.
    """
    count, first = non_finite(vector)
    if count:
        raise UpdateNotFinite(count=count, first=first)


def l2_norm(vector: Vector) -> float:
    """Return the L2 norm, summed in float64, which the squares of float32 cannot overflow.

    It is NaN or infinite exactly if a value is, and zero exactly if all values are. On one machine equal values have
    equal norms, however they lie in memory.
    """
    parts: Iterable[Vector] = (vector[part] for part in blocks(vector.size))
    if not (vector.flags.c_contiguous and vector.flags.aligned):
        parts = (np.require(part, requirements=["C", "A"]) for part in parts)
    is_long = vector.dtype == np.float32 and vector.size >= COMPILED_FROM
    loops = _load_compiled() if is_long else None
    sum_of_squares = _sum_of_squares if loops is None else loops.sum_of_squares
    return math.sqrt(math.fsum(map(sum_of_squares, parts)))


def _sum_of_squares(values: Vector) -> float:
    with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN too
        return float(np.square(values, dtype=np.float64).sum())


def clip_to_norm(vector: Vector, max_norm: float) -> Vector:
    """Return the vector, scaled down as a whole to an L2 norm of at most `max_norm`; unchanged if it is short enough.

    The result is rounded towards zero, so rounding never carries it back over the limit.
    Source: McMahan et al. 2018, section 2 (arXiv:1710.06963).

    Raises:
        ValueError: if `max_norm` is not above 0 and finite.
        UpdateNotFinite: if the vector holds NaN or an infinity; nothing can be made of it.
    """
    if not 0 < max_norm < math.inf:
        raise ValueError(f"max_norm must be above 0 and finite, got {max_norm}")
    norm = l2_norm(vector)
    if not math.isfinite(norm):
        require_finite(vector)  # says how many values, and where
    if norm <= max_norm:
        return vector
    factor = max_norm / norm * (1 - 2.0**-40)  # the margin covers the rounding of the two norms in float64
    clipped = np.empty_like(vector)
    for part in blocks(vector.size):
        exact = vector[part].astype(np.float64) * factor
        rounded = exact.astype(np.float32)
        clipped[part] = np.where(np.abs(rounded) > np.abs(exact), np.nextafter(rounded, np.float32(0)), rounded)
    return clipped
