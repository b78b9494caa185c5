"""The innermost loops over long vectors, compiled by numba. Each gives what its counterpart in numpy gives.

Compiled once for a machine, in about two seconds; afterwards the code lies in a cache, and loading it takes 0.3 s.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, types

_VALUES = types.Array(types.float32, 1, "C", readonly=True)
_SUMS = types.Array(types.float64, 1, "C")
_EXPONENT = np.uint32(0x7F800000)


def _compiled(loop: Callable[..., Any], signature: Any, **options: Any) -> Callable[..., Any]:
    try:
        code: Callable[..., Any] = njit(signature, nogil=True, cache=True, **options)(loop)
    except (RuntimeError, OSError):  # there is no folder in which this process can keep code
        code = njit(signature, nogil=True, **options)(loop)
    return code


def _all_finite(values: npt.NDArray[np.float32]) -> bool:
    bits, largest = values.view(np.uint32), np.uint32(0)
    for i in range(bits.size):  # by index: a loop over the values themselves is not vectorised
        largest = max(largest, bits[i] & _EXPONENT)
    return bool(largest != _EXPONENT)


def _sum_of_squares(values: npt.NDArray[np.float32]) -> float:
    total = 0.0
    for i in range(values.size):
        value = np.float64(values[i])
        total += value * value
    return total


def _add_weighted(
    total: npt.NDArray[np.float64], lost: npt.NDArray[np.float64], values: npt.NDArray[np.float32], weight: float
) -> None:
    for i in range(values.size):
        x = weight * np.float64(values[i])  # exact: 24 + 24 bits
        old = total[i]
        new = old + x
        into = new - old
        lost[i] += (x - into) + (old - (new - into))
        total[i] = new


all_finite: Callable[[npt.NDArray[np.float32]], bool] = _compiled(_all_finite, types.boolean(_VALUES))
"""Say whether no value is NaN or infinite."""

sum_of_squares: Callable[[npt.NDArray[np.float32]], float] = _compiled(
    _sum_of_squares, types.float64(_VALUES), fastmath={"reassoc"}
)
"""Return the sum of the squares of float32 values in float64, added in any order."""

add_weighted: Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float32], float], None] = (
    _compiled(_add_weighted, types.void(_SUMS, _SUMS, _VALUES, types.float64))
)
"""Add `weight` · values to the sum `total` by TwoSum; what that sum loses goes to `lost`."""
