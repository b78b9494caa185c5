"""Updates as if all had come from the same number of local steps."""

import math
from dataclasses import dataclass

import numpy as np

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.masses import weighted_median
from fed_compute.learning.aggregation.matrix import Matrix64, ScaledMatrix

_Square = tuple[tuple[float, float, float], ...]


@dataclass(frozen=True, slots=True)
class StepNormalization:
    """x_i · s / s_i, where s_i is how far update i's steps add up and s the mean of those.

    Source: FedNova, Wang et al. 2020 (arXiv:2007.07481), with s_i = ‖a_i‖₁ as `accumulated_steps` has it.
    With a plain average, who takes more steps counts for more, and the model converges to the optimum of another
    objective than the clients' average one. Here it does not, whatever s is: s is only how far one round goes.
    So a claim of more than twice the median does not add to s. Against one of too few, which makes its own update
    longer, stands `norm_clipping` behind this step. Where nobody's steps are known all count as equal.
    The factors are float32, and exactly 1 where all steps are equal. Cost: n²; the mean behind it is one pass, n·P.
    """

    @property
    def uses_num_liars(self) -> bool:
        return False

    def num_rows(self, num_updates: int) -> int:
        return num_updates

    def prepare(self, cohort: Cohort, *, seed: int) -> tuple[Cohort, Matrix64]:
        relative = cohort.steps / weighted_median(cohort.steps, cohort.weights)
        mean = math.fsum(cohort.weights * np.minimum(relative, 2.0)) / math.fsum(cohort.weights)
        factors = (mean / relative).astype(np.float32)
        mixing = np.diag(factors.astype(np.float64))
        return cohort.replaced(ScaledMatrix(cohort.matrix, factors), mixing, cohort.weights), mixing


def accumulated_steps(num_steps: int, *, momentum: float = 0.0, pull: float = 0.0) -> float:
    """Return ‖a‖₁: how far `num_steps` steps of SGD go along a gradient that stays the same, in units of the rate.

    `pull` is the rate times the μ of FedProx. At most (1 - √momentum)², else the way is no sum of gradients with
    weights of one sign, which is what the norm stands for. Agrees with Wang et al. 2020: the number of steps
    for plain SGD, (τ - ρ(1 - ρ^τ)/(1 - ρ))/(1 - ρ) with momentum ρ, (1 - (1 - α)^τ)/α with pull α.
    The same bits on every machine. Cost: log(num_steps).

    Raises:
        ValueError: if a number is out of its range.
    """
    if num_steps < 1 or not 0.0 <= momentum < 1.0 or not 0.0 <= pull <= largest_pull(momentum):
        raise ValueError(f"no number is known for {num_steps} steps, momentum {momentum} and pull {pull}")
    # One step takes (way, speed, 1) to (way + speed', speed', 1), where speed' = momentum · speed + 1 - pull · way.
    step: _Square = ((1.0 - pull, momentum, 1.0), (-pull, momentum, 1.0), (0.0, 0.0, 1.0))
    all_steps: _Square = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    while num_steps:
        if num_steps % 2:
            all_steps = _product(step, all_steps)
        step, num_steps = _product(step, step), num_steps // 2
    return all_steps[0][2]


def largest_pull(momentum: float) -> float:
    """Return the largest pull with which every gradient still moves the parameters its own way."""
    return (1.0 - math.sqrt(momentum)) ** 2


def _product(a: _Square, b: _Square) -> _Square:
    columns = tuple(zip(*b, strict=True))
    return tuple((_dot(row, columns[0]), _dot(row, columns[1]), _dot(row, columns[2])) for row in a)


def _dot(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
