"""Means of small random groups instead of single updates."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.matrix import Matrix, Matrix64, UpdateMatrix


class BucketMatrix:
    """Each row a weighted mean of a few rows of another matrix, rounded to float32."""

    def __init__(self, matrix: UpdateMatrix, mixing: Matrix64) -> None:
        self._matrix = matrix
        self._mixing = mixing

    @property
    def num_updates(self) -> int:
        return len(self._mixing)

    @property
    def num_parameters(self) -> int:
        return self._matrix.num_parameters

    def block(self, part: slice) -> Matrix:
        values = self._matrix.block(part)
        means = np.zeros((len(self._mixing), values.shape[1]), dtype=np.float64)
        for mean, factors in zip(means, self._mixing, strict=True):
            for i in np.flatnonzero(factors):
                mean += np.multiply(values[i], factors[i], dtype=np.float64)
        return means.astype(np.float32)


def drawn_order(count: int, *, seed: int) -> list[int]:
    """Return 0 to `count` - 1 in an order drawn from the seed: the same with every version of every library."""
    return sorted(range(count), key=lambda i: hashlib.sha256(f"{seed}:{i}".encode()).digest())


@dataclass(frozen=True, slots=True)
class Bucketing:
    """Cut the updates into random groups of `size` and let the rule see the groups' means.

    Source: Karimireddy et al. 2022 (arXiv:2006.09365). Makes skewed updates more alike; each liar spoils at most one
    group, so f liars need f < (number of groups) / 2. The groups follow from the seed alone; each counts by its weight,
    so a last group that is smaller counts for less.
    Cost: the Gram matrix, and a pass of n·P when the rule reads the means.
    """

    size: int = 2

    @property
    def uses_num_liars(self) -> bool:
        return False

    def num_rows(self, num_updates: int) -> int:
        return -(-num_updates // self.size)

    def prepare(self, cohort: Cohort, *, seed: int) -> tuple[Cohort, Matrix64]:
        n, buckets = cohort.num_updates, self.num_rows(cohort.num_updates)
        mixing = np.zeros((buckets, n), dtype=np.float64)
        for place, update in enumerate(drawn_order(n, seed=seed)):
            mixing[place // self.size, update] = cohort.weights[update]
        weights = np.array([math.fsum(row) for row in mixing])
        mixing /= weights[:, None]
        return cohort.replaced(BucketMatrix(cohort.matrix, mixing), mixing, weights), mixing
