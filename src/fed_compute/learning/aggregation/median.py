"""The median of each parameter."""

import math
from dataclasses import dataclass

import numpy as np

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.matrix import Matrix
from fed_compute.learning.aggregation.sorting import sorted_values, sorted_with_weights
from fed_compute.learning.vectors import Vector64


@dataclass(frozen=True, slots=True)
class CoordinateMedian:
    """The middle value of each parameter; in the middle between two, their mean.

    Source: Yin et al. 2018 (arXiv:1803.01498). With weights: the value below which half of the weight lies.
    Bears liars with less than half of the weight, in each parameter by itself; on skewed data it loses
    much accuracy even without liars.
    Cost: one pass, n·P·log n. Memory: two blocks of n × 2 048 float32; with unequal weights six of float64.
    """

    @property
    def uses_num_liars(self) -> bool:
        return False

    def least_updates(self, num_liars: int) -> int:
        return 2 * num_liars + 1

    def combine(self, block: Matrix, cohort: Cohort) -> Vector64:
        n = cohort.num_updates
        if cohort.has_equal_weights:
            ordered = sorted_values(block)
            return (ordered[:, (n - 1) // 2].astype(np.float64) + ordered[:, n // 2]) / 2.0
        values, weights = sorted_with_weights(block, cohort.weights)
        ends, half = np.cumsum(weights, axis=1), math.fsum(cohort.weights) / 2.0
        places = np.stack([(ends < half).sum(axis=1), (ends <= half).sum(axis=1)], axis=1)
        middle = np.take_along_axis(values, np.minimum(places, n - 1), axis=1)
        return (middle[:, 0].astype(np.float64) + middle[:, 1]) / 2.0
