"""The one update that lies closest to its neighbours."""

import math
from dataclasses import dataclass

import numpy as np

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.gram import squared_distances
from fed_compute.learning.aggregation.masses import nearest_mass
from fed_compute.learning.vectors import Vector64


def krum_scores(cohort: Cohort) -> Vector64:
    """Return the sum of squared distances of each update to its n-f-2 nearest others, float64 (n,).

    With weights: to the nearest others that hold (n-f-2)/n of the weight, each by what it counts.
    """
    distances, n = squared_distances(cohort.gram), cohort.num_updates
    quota = cohort.mass_of(max(1, n - cohort.num_liars - 2))
    scores = np.zeros(n, dtype=np.float64)
    for i in range(n):
        order = np.argsort(distances[i], kind="stable")
        used = nearest_mass(order[order != i], cohort.weights, quota=quota)
        scores[i] = math.fsum(used * distances[i])
    return scores


@dataclass(frozen=True, slots=True)
class Krum:
    """Return the update with the lowest sum of squared distances to its n-f-2 nearest others; of equals the first.

    Source: Blanchard et al. 2017 (NeurIPS, "Machine Learning with Adversaries").
    Bears f liars if n ≥ 2f + 3. One client's update is the whole result: noisy, and hard on skewed data.
    Cost: the Gram matrix, n²·P, and one pass.
    """

    @property
    def uses_num_liars(self) -> bool:
        return True

    def least_updates(self, num_liars: int) -> int:
        return 2 * num_liars + 3

    def influence(self, cohort: Cohort) -> Vector64:
        chosen = np.zeros(cohort.num_updates, dtype=np.float64)
        chosen[int(np.argmin(krum_scores(cohort)))] = 1.0
        return chosen
