"""The mean of each parameter without its extremes."""

from dataclasses import dataclass

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.masses import kept_mass
from fed_compute.learning.aggregation.matrix import Matrix
from fed_compute.learning.aggregation.sorting import sorted_values, sorted_with_weights, sum_in_order
from fed_compute.learning.vectors import Vector64


@dataclass(frozen=True, slots=True)
class TrimmedMean:
    """Leave out the f largest and the f smallest values of each parameter and average the rest.

    Source: Yin et al. 2018 (arXiv:1803.01498). With weights: leave out f/n of the weight at each end.
    Bears f < n/2 liars, in each parameter by itself.
    Cost: one pass, n·P·log n. Memory: two blocks of n × 2 048 float32; with unequal weights six of float64.
    """

    @property
    def uses_num_liars(self) -> bool:
        return True

    def least_updates(self, num_liars: int) -> int:
        return 2 * num_liars + 1

    def combine(self, block: Matrix, cohort: Cohort) -> Vector64:
        n, f = cohort.num_updates, cohort.num_liars
        if cohort.has_equal_weights:
            return sum_in_order(sorted_values(block)[:, f : n - f]) / (n - 2 * f)
        values, weights = sorted_with_weights(block, cohort.weights)
        low, high = cohort.mass_of(f), cohort.mass_of(n - f)
        parts = kept_mass(weights, low=low, high=high)
        parts *= values
        return sum_in_order(parts) / (high - low)
