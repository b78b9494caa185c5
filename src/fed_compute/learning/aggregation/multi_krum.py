"""The mean of the updates that lie closest to their neighbours."""

import math
from dataclasses import dataclass

import numpy as np

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.krum import krum_scores
from fed_compute.learning.aggregation.masses import nearest_mass
from fed_compute.learning.vectors import Vector64


@dataclass(frozen=True, slots=True)
class MultiKrum:
    """Average the n-f updates with the lowest Krum scores. With weights: those that hold (n-f)/n of the weight.

    Source: Blanchard et al. 2017 (NeurIPS, "Machine Learning with Adversaries").
    Bears f liars if n ≥ 2f + 3. Cost: the Gram matrix, n²·P, and one pass.
    """

    @property
    def uses_num_liars(self) -> bool:
        return True

    def least_updates(self, num_liars: int) -> int:
        return 2 * num_liars + 3

    def influence(self, cohort: Cohort) -> Vector64:
        order = np.argsort(krum_scores(cohort), kind="stable")
        quota = cohort.mass_of(cohort.num_updates - cohort.num_liars)
        used = nearest_mass(order, cohort.weights, quota=quota)
        influence: Vector64 = used / math.fsum(used)
        return influence
