"""Federated averaging as a streaming fold."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from fed_compute.errors import NothingToAggregate
from fed_compute.learning.aggregation.context import RoundContext
from fed_compute.learning.aggregation.matrix import Matrix64
from fed_compute.learning.aggregation.rule import Outcome
from fed_compute.learning.vectors import (
    BLOCK,
    Vector,
    Vector64,
    blocks,
    compiled_loops,
    groups,
    is_finite,
    require_finite,
    require_float32,
)


class WeightedMean:
    """Average updates as they come, each with its weight: its number of samples, or what became of that.

    Source: McMahan et al. 2017, Algorithm 1 (arXiv:1602.05629). The sum is kept as two float64
    numbers per parameter and added with TwoSum (Knuth, TAOCP 2, 4.2.2), so it carries about 106 bits.

    Guaranteed: the same updates in the same order give the same bits on every machine (only single
    IEEE additions, no BLAS). In any order they give the same bits too, provided that for each parameter
    the weighted values are multiples of some u and N · S ≤ 2**106 · u, where N is the number of updates
    and S the sum of the weighted magnitudes: then no rounding happens at all before the last division.
    With float32 inputs and whole weights that holds while a parameter's nonzero values differ by less than a
    factor of about 2**82 / (N · total weight), 4e15 for a thousand updates of a thousand samples each. Weights
    of 24 bits that are no whole numbers, those of newcomers beside established clients, cost up to 2**24 of it.
    Beyond that the sum is off by at most about N**2 · 2**-106 · S, which can depend on the order and
    reaches a float32 result only if the exact value lies that close to a rounding boundary.

    Memory: 16 bytes per parameter however many updates come, and 1.5 MiB of scratch; another 16 bytes per parameter
    once several updates were folded in at once. That takes half the time: the sums pass through the cache once for
    four updates, and are looked through for what is not finite instead of each update.
    """

    def __init__(self, num_parameters: int) -> None:
        self._sums = np.zeros((2, num_parameters), dtype=np.float64)  # the sum, and what rounding took from it
        self._spare: Matrix64 | None = None  # of the same shape
        self._scratch = np.empty((3, min(num_parameters, BLOCK)), dtype=np.float64)
        self._weights: list[float] = []

    @property
    def num_updates(self) -> int:
        return len(self._weights)

    @property
    def weights(self) -> tuple[float, ...]:
        return tuple(self._weights)

    def add(self, delta: Vector, *, weight: float) -> None:
        """Fold in one update, as `add_all` does."""
        self.add_all([delta], weights=[weight])

    def add_all(self, deltas: Sequence[Vector], *, weights: Sequence[float]) -> None:
        """Fold in updates, each float32 (P,), in order, with weights above 0 of at most 24 significant bits.

        It gives the same bits whether they come together or one by one. If one is refused, the sum stays untouched.

        Raises:
            UpdateShapeMismatch: if one is not of shape (P,).
            UpdateNotFinite: if one holds NaN or an infinity.
            ValueError: if a weight is not finite, not above 0 or has more bits.
            TypeError: if one is not float32; a wider type would be rounded without a word.
        """
        for delta, weight in zip(deltas, weights, strict=True):
            require_weight(weight)
            require_float32(delta, self._sums.shape[1], what="delta")
        if len(deltas) == 1:
            require_finite(deltas[0])
            self._fold(self._sums, deltas, weights)
        else:
            self._try(deltas, weights)
        self._weights += weights

    def reweigh(self, weights: Sequence[float], again: Iterable[Vector]) -> None:
        """Forget the sum and fold the same updates in once more, with other weights."""
        self._sums[:], self._weights = 0.0, []
        for group in groups(zip(again, weights, strict=True), num_parameters=self._sums.shape[1]):
            self.add_all([delta for delta, _ in group], weights=[weight for _, weight in group])
            del group  # before the next one is read

    def result(self) -> Vector64:
        """Return the weighted mean, float64 (P,), as a new array. More updates may follow.

        Raises:
            NothingToAggregate: if no update was folded in.
        """
        if not self._weights:
            raise NothingToAggregate()
        mean: Vector64 = self._sums[0] + self._sums[1]
        mean /= math.fsum(self._weights)
        return mean

    def combine(self, context: RoundContext) -> Outcome:
        """Return the weighted mean as the outcome of a round; its surroundings do not matter.

        Raises:
            NothingToAggregate: if no update was folded in.
        """
        return Outcome(self.result())

    def _try(self, deltas: Sequence[Vector], weights: Sequence[float]) -> None:
        """Fold into a copy of the sums and look at that: a value that is not finite stays in its sum for good."""
        if self._spare is None:
            self._spare = np.empty_like(self._sums)
        trial = self._spare
        trial[:] = self._sums
        if compiled_loops(*deltas) is None:  # one that lies askew must not make the others slow
            deltas = [np.require(delta, requirements=["C", "A"]) for delta in deltas]
        with np.errstate(invalid="ignore"):
            self._fold(trial, deltas, weights)
        if not is_finite(trial[0]):
            for delta in deltas:
                require_finite(delta)
        self._sums, self._spare = trial, self._sums

    def _fold(self, sums: Matrix64, deltas: Sequence[Vector], weights: Sequence[float]) -> None:
        total, lost = sums
        loops = compiled_loops(*deltas)
        if loops is None:
            for delta, weight in zip(deltas, weights, strict=True):
                for part in blocks(delta.size):
                    self._add_block(total[part], lost[part], delta[part], weight)
            return
        whole = len(deltas) - len(deltas) % loops.AT_ONCE
        for start in range(0, whole, loops.AT_ONCE):
            some = slice(start, start + loops.AT_ONCE)
            loops.add_all_weighted(total, lost, tuple(deltas[some]), tuple(weights[some]))
        for delta, weight in zip(deltas[whole:], weights[whole:], strict=True):
            loops.add_weighted(total, lost, delta, weight)

    def _add_block(self, total: Vector64, lost: Vector64, delta: Vector, weight: float) -> None:
        """TwoSum of the running sum and `weight` · `delta`; what the sum loses goes to `lost`."""
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


def require_weight(weight: float) -> None:
    """Refuse what cannot weigh an update: weight times float32 must be exact in float64.

    Raises:
        ValueError: if the weight is not finite, not above 0, or has more than 24 significant bits.
    """
    if not (0.0 < weight < math.inf and float(np.float32(weight)) == weight):
        raise ValueError(f"a weight is above 0, finite and of at most 24 significant bits, got {weight!r}")
