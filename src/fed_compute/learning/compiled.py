"""The innermost loops over long vectors, compiled by numba. Each gives what its counterpart in numpy gives.

Compiled once for a machine, in about two seconds; afterwards the code lies in a cache, and loading it takes 0.3 s.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_VALUES = types.Array(types.float32, 1, "C", readonly=True)
_SUMS = types.Array(types.float64, 1, "C")
_tuple_of: Callable[..., types.Type] = types.UniTuple
_EXPONENT = np.uint32(0x7F800000)
AT_ONCE = 4
"""Vectors that `add_all_weighted` adds in one pass."""


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


def _fmuladd(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """Compile a · b + c, rounded once or twice, as this machine does it faster: the same where the product is exact."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        double = ir.DoubleType()
        kind = ir.FunctionType(double, [double] * 3)
        return builder.call(builder.module.declare_intrinsic("llvm.fmuladd", [double], kind), arguments)

    return types.float64(types.float64, types.float64, types.float64), build


_multiply_add: Any = intrinsic(_fmuladd)


def _added(total: float, lost: float, value: np.float32, weight: float) -> tuple[float, float]:
    factor = np.float64(value)  # weight · factor is exact: 24 + 24 bits
    new = _multiply_add(weight, factor, total)
    into = new - total
    return new, lost + (_multiply_add(weight, factor, -into) + (total - (new - into)))


_two_sum: Callable[..., tuple[float, float]] = njit(nogil=True)(_added)


def _add_weighted(
    total: npt.NDArray[np.float64], lost: npt.NDArray[np.float64], values: npt.NDArray[np.float32], weight: float
) -> None:
    for i in range(values.size):
        total[i], lost[i] = _two_sum(total[i], lost[i], values[i], weight)


def _add_all_weighted(
    total: npt.NDArray[np.float64],
    lost: npt.NDArray[np.float64],
    vectors: tuple[npt.NDArray[np.float32], ...],
    weights: tuple[float, ...],
) -> None:
    first, second, third, fourth = vectors
    for i in range(total.size):
        t, e = _two_sum(total[i], lost[i], first[i], weights[0])
        t, e = _two_sum(t, e, second[i], weights[1])
        t, e = _two_sum(t, e, third[i], weights[2])
        total[i], lost[i] = _two_sum(t, e, fourth[i], weights[3])


all_finite: Callable[[npt.NDArray[np.float32]], bool] = _compiled(_all_finite, types.boolean(_VALUES))
"""Say whether no value is NaN or infinite."""

sum_of_squares: Callable[[npt.NDArray[np.float32]], float] = _compiled(
    _sum_of_squares, types.float64(_VALUES), fastmath={"contract", "reassoc"}
)
"""Return the sum of the squares of float32 values in float64, added in any order."""

add_weighted: Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float32], float], None] = (
    _compiled(_add_weighted, types.void(_SUMS, _SUMS, _VALUES, types.float64))
)
"""Add `weight` · values to the sum `total` by TwoSum; what that sum loses goes to `lost`."""

add_all_weighted: Callable[
    [
        npt.NDArray[np.float64],
        npt.NDArray[np.float64],
        tuple[npt.NDArray[np.float32], ...],
        tuple[float, ...],
    ],
    None,
] = _compiled(
    _add_all_weighted,
    types.void(_SUMS, _SUMS, _tuple_of(_VALUES, AT_ONCE), _tuple_of(types.float64, AT_ONCE)),
)
"""Do what `add_weighted` does with each of `AT_ONCE` vectors and its weight, in order, while the sums pass by once."""
