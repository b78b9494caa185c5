"""The plain weighted mean. Bears no liar: one can move it anywhere."""

from dataclasses import dataclass

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.vectors import Vector64


@dataclass(frozen=True, slots=True)
class Mean:
    """Σ w_i x_i / Σ w_i. Source: McMahan et al. 2017, Algorithm 1 (arXiv:1602.05629).

    Cost: one pass, n·P. `WeightedMean` gives the same as a streaming fold, without keeping the updates.
    """

    @property
    def uses_num_liars(self) -> bool:
        return False

    def least_updates(self, num_liars: int) -> int:
        return 1

    def influence(self, cohort: Cohort) -> Vector64:
        return cohort.shares
