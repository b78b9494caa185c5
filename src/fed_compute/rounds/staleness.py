"""Staleness: how many versions appeared between the one that an update started from and the one that it changes.

Source: Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation" (arXiv:2106.06639), section 5.
"""

import math

LEASES_PER_UPDATE = 4
"""Concurrency of a job that sets none, in buffers: so many leases are out for each update that a buffer waits for."""

TIMES_EXPECTED = 4
"""The staleness that is still taken, where a job sets none, in multiples of the expected one."""


def staleness_weight(staleness: int) -> float:
    """Return 1/√(1+τ): what is left of an update's weight when it is τ versions behind. 1 for a fresh one.

    Correctly rounded operations only, so it has the same bits on every machine.

    Raises:
        ValueError: if `staleness` is negative: nobody starts from a version that does not exist yet.
    """
    if staleness < 0:
        raise ValueError(f"staleness must be at least 0, got {staleness}")
    return 1.0 / math.sqrt(1.0 + staleness)


def expected_staleness(*, concurrency: int, buffer_size: int) -> float:
    """Return the mean staleness C/K of a job with C leases out and a version after every K updates (Little's law)."""
    return concurrency / buffer_size


def default_max_staleness(*, concurrency: int, buffer_size: int) -> int:
    """Return four times the expected staleness, rounded up: only what is far slower than the others is left out."""
    return math.ceil(TIMES_EXPECTED * expected_staleness(concurrency=concurrency, buffer_size=buffer_size))
