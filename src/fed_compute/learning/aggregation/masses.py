"""Counting by weight: how much of each update lies in a part of the whole."""

import math

import numpy as np
import numpy.typing as npt

from fed_compute.learning.aggregation.matrix import Matrix64
from fed_compute.learning.vectors import Vector64


def kept_mass(weights: Matrix64, *, low: float, high: float) -> Matrix64:
    """Return how much of each weight, laid end to end along the last axis, lies between `low` and `high`."""
    ends = np.cumsum(weights, axis=-1)
    kept = np.minimum(ends, high)
    ends -= weights
    kept -= np.maximum(ends, low, out=ends)
    return np.maximum(kept, 0.0, out=kept)


def nearest_mass(order: npt.NDArray[np.intp], weights: Vector64, *, quota: float) -> Vector64:
    """Return how much of each weight is used when weights are taken in `order` until `quota` is reached."""
    used = np.zeros_like(weights)
    used[order] = kept_mass(weights[order], low=0.0, high=quota)
    return used


def weighted_median(values: Vector64, weights: Vector64) -> float:
    """Return the median of values of which each counts by its weight; in the middle between two, their mean."""
    order = np.argsort(values, kind="stable")
    ends, half = np.cumsum(weights[order]), math.fsum(weights) / 2.0
    lower = values[order][int(np.searchsorted(ends, half, side="left"))]
    upper = values[order][min(int(np.searchsorted(ends, half, side="right")), len(values) - 1)]
    return float(lower + upper) / 2.0
