"""Each update replaced by the mean of its nearest neighbours."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.gram import squared_distances
from fed_compute.learning.aggregation.masses import nearest_mass
from fed_compute.learning.aggregation.matrix import Matrix, Matrix64, UpdateMatrix, largest_values

Mixed = npt.NDArray[np.floating[Any]]

WEIGHT_LEVELS = 65_536
LEVEL_STEP = 4
"""Binary orders of magnitude that are mixed with one unit."""
FLOAT32_SUM_BITS = 10
"""A mean of up to 1 024 is made in float32, which leaves 14 bits for the values; their errors average out."""
SMALLEST_EXPONENT = -100
"""Values below about 2**-100 are mixed as if they were nothing, so that no unit underflows."""


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

    The sums are BLAS's. They are exact, in whatever order, because the values of each parameter are rounded first to
    whole multiples of one unit, so large that no sum outgrows the mantissa. With equal weights that is float32: a mean
    of m updates is off by about 2**-25 · m of the parameter's largest value, divided by the root of m; with others
    float64. The unit follows the largest value among the rows that a mean is made of, in steps of 2**4, so one liar's
    giant cannot drown the means that it has no part in.
    """

    def __init__(self, matrix: UpdateMatrix, counts: Matrix64) -> None:
        self._matrix = matrix
        self._counts = counts
        totals = counts.sum(axis=1)
        sum_bits = int(np.ceil(np.log2(totals.max())))
        self._type = np.float32 if sum_bits <= FLOAT32_SUM_BITS else np.float64
        self._bits = np.finfo(self._type).nmant + 1 - sum_bits
        self._totals = totals.astype(self._type)

    @property
    def num_updates(self) -> int:
        return len(self._counts)

    @property
    def num_parameters(self) -> int:
        return self._matrix.num_parameters

    def block(self, part: slice) -> Matrix:
        values = self._matrix.block(part)
        mixed = np.empty((values.shape[1], self.num_updates), dtype=np.float32)  # transposed: it is sorted that way
        for rows in self._alike(values):
            counts = self._counts[rows]
            used = counts.any(axis=0)
            mixed[:, rows] = self._means(values if used.all() else values[used], counts[:, used], self._totals[rows])
        return mixed.T

    def _means(self, values: Matrix, counts: Matrix64, totals: Mixed) -> Mixed:
        """Return the means that `counts` (m, k) makes of `values` (k, B), shape (B, m)."""
        _, exponents = np.frexp(np.maximum(values.max(axis=0), -values.min(axis=0)))
        exponents = np.maximum(exponents, SMALLEST_EXPONENT)
        whole: Mixed = values * np.ldexp(self._type(1.0), self._bits - exponents)
        np.rint(whole, out=whole)
        means: Mixed = whole.T @ counts.T.astype(self._type)
        means /= totals
        means *= np.ldexp(self._type(1.0), exponents - self._bits)[:, None]
        return means

    def _alike(self, values: Matrix) -> list[slice | npt.NDArray[np.intp]]:
        """Return the rows in groups whose means are made of values with largest ones of about the same size."""
        _, exponents = np.frexp(largest_values(values))
        largest = np.where(self._counts > 0.0, exponents, -(2**30)).max(axis=1)
        levels = -(-largest // LEVEL_STEP)
        if (levels == levels[0]).all():
            return [slice(None)]
        return [np.flatnonzero(levels == level) for level in np.unique(levels)]
