"""The point with the least sum of distances to the updates."""

import math
from dataclasses import dataclass

import numpy as np

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.gram import squared_distances_to
from fed_compute.learning.aggregation.masses import weighted_median
from fed_compute.learning.vectors import Vector64

SETTLED = 1e-12


@dataclass(frozen=True, slots=True)
class GeometricMedian:
    """Smoothed Weiszfeld: z ← Σ β_i x_i / Σ β_i with β_i = w_i / max(ν, ‖x_i - z‖), from z = 0.

    Source: Pillutla et al. 2022, Algorithm 2, "RFA" (arXiv:1912.13445). `smoothing` is ν; None takes a millionth
    of the median norm. Stops after `iterations`, or earlier when no weight moves by more than 1e-12.
    Bears liars with less than half of the weight.
    Cost: the Gram matrix, n²·P, then n² a step, and one pass.
    """

    iterations: int = 100
    smoothing: float | None = None

    @property
    def uses_num_liars(self) -> bool:
        return False

    def least_updates(self, num_liars: int) -> int:
        return 2 * num_liars + 1

    def influence(self, cohort: Cohort) -> Vector64:
        point, shares = np.zeros(cohort.num_updates, dtype=np.float64), cohort.shares
        floor = self.smoothing or 1e-6 * weighted_median(cohort.norms(), cohort.weights) or 1e-300
        for _ in range(self.iterations):
            pull = shares / np.maximum(np.sqrt(squared_distances_to(point, cohort.gram)), floor)
            before, point = point, pull / math.fsum(pull)
            if np.abs(point - before).max() <= SETTLED:
                break
        return point
