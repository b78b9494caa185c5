"""Federated averaging as a streaming fold."""

import numpy as np

from fed_compute.errors import NothingToAggregate, SampleCountInvalid
from fed_compute.learning.vectors import BLOCK, Vector, Vector64, blocks, require_finite, require_shape

MAX_NUM_SAMPLES = 10_000_000
"""Below 2**24, so that count times float32 is exact in float64."""


class WeightedMean:
    """Average updates one at a time, each weighted by its number of samples.

    Source: McMahan et al. 2017, Algorithm 1 (arXiv:1602.05629). The sum is kept as two float64
    numbers per parameter and added with TwoSum (Knuth, TAOCP 2, 4.2.2), so it carries about 106 bits.

    Guaranteed: the same updates in the same order give the same bits on every machine (only single
    IEEE additions, no BLAS). In any order they give the same bits too, provided that for each parameter
    the weighted values are multiples of some u and N · S ≤ 2**106 · u, where N is the number of updates
    and S the sum of the weighted magnitudes: then no rounding happens at all before the last division.
    With float32 inputs that holds while a parameter's nonzero values differ by less than a factor of
    about 2**82 / (N · total samples), 4e15 for a thousand updates of a thousand samples each.
    Beyond that the sum is off by at most about N**2 · 2**-106 · S, which can depend on the order and
    reaches a float32 result only if the exact value lies that close to a rounding boundary.

    Memory: 16 bytes per parameter however many updates come, and 1.5 MiB of scratch.
    """

    def __init__(self, num_parameters: int) -> None:
        self._sum = np.zeros(num_parameters, dtype=np.float64)  # shape (P,)
        self._lost = np.zeros(num_parameters, dtype=np.float64)  # shape (P,): what rounding took from _sum
        self._scratch = np.empty((3, min(num_parameters, BLOCK)), dtype=np.float64)
        self._num_updates = 0
        self._num_samples = 0

    @property
    def num_updates(self) -> int:
        return self._num_updates

    @property
    def num_samples(self) -> int:
        return self._num_samples

    def add(self, delta: Vector, *, num_samples: int) -> None:
        """Fold in one update, float32 (P,), weighted by `num_samples`, a whole number from 1 to 10 000 000.

        A refused update leaves the sum untouched.

        Raises:
            UpdateShapeMismatch: if `delta` is not of shape (P,).
            UpdateNotFinite: if it holds NaN or an infinity.
            SampleCountInvalid: if the count is out of range.
            TypeError: if `delta` is not float32; a wider type would be rounded without a word.
        """
        if delta.dtype != np.float32:
            raise TypeError(f"delta must be float32, got {delta.dtype}")
        if not 1 <= num_samples <= MAX_NUM_SAMPLES:
            raise SampleCountInvalid(num_samples, limit=MAX_NUM_SAMPLES)
        require_shape(delta, self._sum.size, what="delta")
        require_finite(delta)
        for part in blocks(delta.size):
            self._add_block(part, delta[part], float(num_samples))
        self._num_updates += 1
        self._num_samples += num_samples

    def result(self) -> Vector64:
        """Return the mean weighted by samples, float64 (P,), as a new array. More updates may follow.

        Raises:
            NothingToAggregate: if no update was folded in.
        """
        if self._num_updates == 0:
            raise NothingToAggregate()
        mean = self._sum + self._lost
        mean /= self._num_samples
        return mean

    def _add_block(self, part: slice, delta: Vector, weight: float) -> None:
        """TwoSum of the running sum and `weight` · `delta`; what the sum loses goes to `_lost`."""
        total, lost = self._sum[part], self._lost[part]
        x, new, t = self._scratch[:, : delta.size]
        np.multiply(delta, weight, out=x, dtype=np.float64)  # exact: 24 + 24 bits
        np.add(total, x, out=new)
        np.subtract(new, total, out=t)  # what of x went into the new sum
        np.subtract(x, t, out=x)  # what of x was lost
        np.subtract(new, t, out=t)  # what of the old sum is in the new one
        np.subtract(total, t, out=t)  # what of the old sum was lost
        np.add(x, t, out=x)
        np.add(lost, x, out=lost)
        total[...] = new
