"""SCAFFOLD on the client: what it adds to its gradients, and what it remembers of them."""

import numpy as np

from fed_compute.learning.vectors import Vector


def correction(control: Vector, own: Vector, *, strength: float) -> Vector:
    """Return what a client adds to each step's gradient, float32 (P,): β (c - cᵢ).

    Source: SCAFFOLD, Karimireddy et al. 2020 (arXiv:1910.06378), where β is 1.
    """
    return np.asarray(strength * (control.astype(np.float64) - own), dtype=np.float32)


def next_own_control(added: Vector, sent: Vector, *, way: float) -> Vector:
    """Return a client's next control variate, float32 (P,): its mean gradient, as its update tells it.

    Source: option II of SCAFFOLD. Nothing is checked: what overflows is infinite.

    Args:
        added: what was added to each step's gradient, float32 (P,).
        sent: the update as the coordinator reads it, float32 (P,).
        way: the number of steps that it tells, times the learning rate.
    """
    with np.errstate(over="ignore"):
        return np.asarray(-sent.astype(np.float64) / way - added, dtype=np.float32)
