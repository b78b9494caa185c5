"""Each update replaced by the mean of its nearest neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.gram import squared_distances
from fed_compute.learning.aggregation.masses import nearest_mass
from fed_compute.learning.aggregation.matrix import Matrix, Matrix64, UpdateMatrix, largest_values
from fed_compute.learning.vectors import Vector64

WEIGHT_LEVELS = 65_536
LEVEL_STEP = 8
"""Binary orders of magnitude that share one grid."""


@dataclass(frozen=True, slots=True)
class NearestNeighborMixing:
    """Replace each update by the mean of its n-f nearest, itself included.

    Source: Allouah et al. 2023, "NNM" (arXiv:2302.01772): brings any rule that follows to the best order of error
    that skewed data allow. With weights: the nearest that hold (n-f)/n of the weight, each by what it counts, in
    65 536ths of the largest.
    Bears f < n/2 liars together with the rule behind it.
    Cost: the Gram matrix, n²·P, and as much again when the rule reads the mixed updates one parameter at a time.
    """

    @property
    def uses_num_liars(self) -> bool:
        return True

    def num_rows(self, num_updates: int) -> int:
        return num_updates

    def prepare(self, cohort: Cohort, *, seed: int) -> tuple[Cohort, Matrix64]:
        counts = _neighbor_counts(cohort)
        mixing = counts / counts.sum(axis=1, keepdims=True)
        return cohort.replaced(MixedMatrix(cohort.matrix, counts), mixing, cohort.weights), mixing


def _neighbor_counts(cohort: Cohort) -> Matrix64:
    """Return how often each update counts in each mean: whole numbers, float64 (n, n)."""
    distances = squared_distances(cohort.gram)
    np.fill_diagonal(distances, -1.0)  # each is its own nearest
    quota = cohort.mass_of(cohort.num_updates - cohort.num_liars)
    used = np.array([nearest_mass(np.argsort(row, kind="stable"), cohort.weights, quota=quota) for row in distances])
    counts: Matrix64 = np.rint(used * (WEIGHT_LEVELS / cohort.weights.max()))
    np.fill_diagonal(counts, np.maximum(np.diagonal(counts), 1.0))
    counts /= np.gcd.reduce(counts.astype(np.int64).ravel())
    return counts


class MixedMatrix:
    """Each row a mean of rows of another matrix, counted by whole numbers; the same bits on every machine.

    The sums are BLAS's. They are exact, in whatever order, because values are rounded first to whole multiples of
    one unit, so many that no sum has more than 52 bits. The unit follows the largest value among the rows that a
    mean is made of, so one liar's giant cannot drown the means that it has no part in.
    """

    def __init__(self, matrix: UpdateMatrix, counts: Matrix64) -> None:
        self._matrix = matrix
        self._counts = counts
        self._columns = np.ascontiguousarray(counts.T)
        self._totals = counts.sum(axis=1)
        self._bits = 52 - int(np.ceil(np.log2(self._totals.max())))

    @property
    def num_updates(self) -> int:
        return len(self._counts)

    @property
    def num_parameters(self) -> int:
        return self._matrix.num_parameters

    def block(self, part: slice) -> Matrix:
        values = self._matrix.block(part)
        mixed = np.empty((values.shape[1], self.num_updates), dtype=np.float32)  # transposed: it is sorted that way
        whole = np.empty(values.shape, dtype=np.float64)
        for rows, exponent in self._levels(values):
            rounder = np.ldexp(1.5, exponent - self._bits + 52)  # adding it rounds to multiples of the unit
            np.add(values, rounder, dtype=np.float64, out=whole)
            whole -= rounder
            sums = whole.T @ self._columns[:, rows]
            sums /= self._totals[rows]
            mixed[:, rows] = sums
        return mixed.T

    def _levels(self, values: Matrix) -> Iterator[tuple[slice | npt.NDArray[np.intp], int]]:
        """Yield the rows whose means have a common unit, and the binary exponent that bounds their values."""
        _, exponents = np.frexp(largest_values(values))
        largest = np.where(self._counts > 0.0, exponents, -(2**30)).max(axis=1)
        levels: Vector64 = -(-largest // LEVEL_STEP) * LEVEL_STEP
        if (levels == levels[0]).all():
            yield slice(None), int(levels[0])
            return
        for level in np.unique(levels):
            yield np.flatnonzero(levels == level), int(level)
