"""Steps from the last result towards the updates, each no longer than a radius."""

import math
from dataclasses import dataclass

import numpy as np

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.gram import squared_distances_to
from fed_compute.learning.aggregation.masses import weighted_median
from fed_compute.learning.vectors import Vector64


@dataclass(frozen=True, slots=True)
class CenteredClipping:
    """v ← v + Σ w_i (x_i - v) · min(1, τ / ‖x_i - v‖), a few times, from the last round's result.

    Source: Karimireddy et al. 2021 (arXiv:2012.10333). `radius` is τ; None takes the median distance to v, anew
    in each step. The cohort's center is v: the last round's result, or the origin in the first round.
    A liar moves the result by at most its share of τ a step. What makes it strong over many rounds is that
    clients send updates averaged over time (momentum).
    Cost: the Gram matrix, n²·P, then n² a step, and one pass.
    """

    radius: float | None = None
    iterations: int = 3

    @property
    def uses_num_liars(self) -> bool:
        return False

    def least_updates(self, num_liars: int) -> int:
        return 2 * num_liars + 1

    def influence(self, cohort: Cohort) -> Vector64:
        n, shares = cohort.num_updates, cohort.shares
        point = np.zeros(n + 1, dtype=np.float64)  # coefficients of the updates and, last, of the center
        point[n] = 1.0
        for _ in range(self.iterations):
            distances = np.sqrt(squared_distances_to(point, cohort.extended_gram))[:n]
            radius = weighted_median(distances, cohort.weights) if self.radius is None else self.radius
            steps = shares * np.minimum(1.0, radius / np.maximum(distances, max(radius, 1e-300)))
            point *= 1.0 - math.fsum(steps)
            point[:n] += steps
        return point
