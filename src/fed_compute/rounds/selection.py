"""When a round may begin, and how many leases it may have out, so that it meets its target in spite of dropouts."""

import math

Z_95 = 1.645
"""One-sided 95 % quantile of the normal distribution."""


def slots_for(target_updates: int, *, over_selection: float | None, report_fraction: float) -> int:
    """Return how many leases may be out or reported at once in one round.

    With a fixed `over_selection` factor that is target × factor. Without one, the number that meets
    the target with about 95 % probability when each lease reports in time with probability
    `report_fraction`: K/p + z·sqrt(K·(1−p))/p (over-selection after Bonawitz et al. 2019).

    Args:
        target_updates: K, updates wanted, at least 1.
        over_selection: a factor of at least 1, or None to follow the measured dropout.
        report_fraction: p, the measured share of leases that report in time, in (0, 1].
    """
    if over_selection is not None:
        return math.ceil(target_updates * over_selection)
    p = min(1.0, max(0.1, report_fraction))
    return math.ceil(target_updates / p + Z_95 * math.sqrt(target_updates * (1.0 - p)) / p)


def may_start(
    num_present: int, *, target_updates: int, start_fraction: float, waited_seconds: float, start_wait_seconds: float
) -> bool:
    """Say whether a round may hand out its first lease: enough clients are there, or it has waited long enough.

    Args:
        num_present: clients heard of lately.
        target_updates: updates wanted.
        start_fraction: share of the target that must be present, from 0 (nobody is waited for) to 1.
        waited_seconds: how long ago the first client asked for this round's work.
        start_wait_seconds: the longest such wait, so that a small fleet is not kept waiting for ever.
    """
    return num_present >= start_fraction * target_updates or waited_seconds >= start_wait_seconds


def report_fraction(*, reported: int, dropped: int) -> float:
    """Return the share of ended leases that reported in time, drawn towards 1 while few are known.

    A lease that was cancelled because the round had enough is neither: its client did nothing wrong.
    """
    prior = 10
    return (reported + prior) / (reported + dropped + prior)
