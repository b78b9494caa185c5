"""What a round makes of the server's control variate in SCAFFOLD."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from fed_compute.learning.aggregation.gram import squared_lengths
from fed_compute.learning.aggregation.masses import weighted_median
from fed_compute.learning.aggregation.matrix import FileMatrix, weighted_rows
from fed_compute.learning.aggregation.server_optimizers import require_finite_result
from fed_compute.learning.vectors import Vector, Vector64

CONTROL = "aggregation.control"
"""The name under which the server's control variate is kept beside the optimiser's state."""
MOST_MEDIANS = 2.0
"""No update moves the server's control variate by more than this many times the round's median way."""

_LARGEST = float(np.finfo(np.float32).max)


def next_control(
    control: Vector,
    deltas: Iterable[Vector],
    *,
    ways: Iterable[float],
    weights: Vector64,
    fraction: float,
    folder: Path,
) -> Vector:
    """Return the server's next control variate, float32 (P,): c + ρ · Σ pᵢ tᵢ, where tᵢ = -c - Δᵢ / (Kᵢ · lr).

    Source: option II of SCAFFOLD, with Δcᵢ read off the update instead of sent beside it. Each tᵢ is clipped to
    `MOST_MEDIANS` times the median norm, so that a liar cannot carry c away. The same bits on every machine.
    Disk: 4 bytes a parameter and update, in a nameless file in `folder`. Cost: two passes over it.

    Args:
        control: the present one, float32 (P,).
        deltas: the round's updates, each float32 (P,), in order.
        ways: of each its number of steps times the learning rate.
        weights: of each what it counts, float64 (n,).
        fraction: ρ, the part of the clients that a round hears.
        folder: where the file lies.

    Raises:
        AggregateNotFinite: if the result would not be finite.
    """
    terms = FileMatrix(folder, num_parameters=control.size)
    for term in _terms(control, deltas, ways):
        terms.append(term)
    norms = np.sqrt(squared_lengths(terms))
    limit = MOST_MEDIANS * weighted_median(norms, weights)
    clipped = (limit / np.maximum(norms, max(limit, 1e-300))).astype(np.float32).astype(np.float64)
    with np.errstate(over="ignore"):  # what overflows is refused below
        moved = control + fraction * (weighted_rows(terms, weights * clipped) / float(np.cumsum(weights)[-1]))
        after = np.asarray(moved, dtype=np.float32)
    require_finite_result("control variate", after)
    return after


def _terms(control: Vector, deltas: Iterable[Vector], ways: Iterable[float]) -> Iterator[Vector]:
    for delta, way in zip(deltas, ways, strict=True):
        with np.errstate(over="ignore"):  # what is infinite is as long as can be
            term = -control.astype(np.float64) - delta.astype(np.float64) / way
        yield np.clip(term, -_LARGEST, _LARGEST).astype(np.float32)
