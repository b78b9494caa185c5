"""How many leases a round may have out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.rounds.selection import may_start, report_fraction, slots_for

TARGETS = st.integers(1, 1_000)
SHARES = st.floats(0, 1)


def chance_of_target(target: int, *, slots: int, p: float) -> float:
    """Return the probability that at least `target` of `slots` leases report, each with probability `p`."""
    return sum(math.comb(slots, k) * p**k * (1 - p) ** (slots - k) for k in range(target, slots + 1))


@pytest.mark.parametrize(("factor", "slots"), [(1, 10), (1.0, 10), (1.01, 11), (1.3, 13), (2.5, 25)])
def test_a_fixed_factor_is_rounded_up(factor: float, slots: int) -> None:
    assert slots_for(10, over_selection=factor, report_fraction=0.5) == slots


@pytest.mark.parametrize(
    ("target", "p", "slots"),
    [(20, 0.94, 24), (20, 0.90, 25), (20, 0.75, 32), (100, 0.90, 117), (100, 0.75, 145), (300, 0.90, 344)],
)
def test_the_number_follows_the_measured_dropout(target: int, p: float, slots: int) -> None:
    assert slots_for(target, over_selection=None, report_fraction=p) == slots


@given(target=TARGETS)
def test_without_dropouts_nobody_works_in_vain(target: int) -> None:
    assert slots_for(target, over_selection=None, report_fraction=1.0) == target


@given(target=TARGETS, low=SHARES, high=SHARES)
def test_more_dropouts_never_mean_fewer_leases(target: int, low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    more = slots_for(target, over_selection=None, report_fraction=low)
    assert more >= slots_for(target, over_selection=None, report_fraction=high) >= target


@given(target=TARGETS)
def test_even_when_nobody_reported_the_number_stays_finite(target: int) -> None:
    slots = slots_for(target, over_selection=None, report_fraction=0.0)
    assert slots == slots_for(target, over_selection=None, report_fraction=0.1) < 30 * target


@pytest.mark.parametrize("target", [1, 2, 5, 10, 30, 100])
@pytest.mark.parametrize("p", [0.3, 0.5, 0.75, 0.9, 0.99])
def test_the_target_is_met_with_about_95_percent_probability(target: int, p: float) -> None:
    slots = slots_for(target, over_selection=None, report_fraction=p)
    assert chance_of_target(target, slots=slots, p=p) > 0.93


def test_a_job_without_history_expects_everybody_to_report() -> None:
    assert report_fraction(reported=0, dropped=0) == 1.0


@given(reported=st.integers(0, 10**6), dropped=st.integers(0, 10**6))
def test_the_measured_share_lies_between_what_was_seen_and_one(reported: int, dropped: int) -> None:
    share = report_fraction(reported=reported, dropped=dropped)
    assert 0 < share <= 1
    assert share >= reported / max(1, reported + dropped)
    assert report_fraction(reported=reported, dropped=dropped + 1) < share


def test_a_long_history_outweighs_the_first_belief() -> None:
    assert report_fraction(reported=6_000, dropped=4_000) == pytest.approx(0.6, abs=0.001)


@pytest.mark.parametrize("target", [1, 2, 5, 10, 20, 50, 100, 300])
@pytest.mark.parametrize("p", [0.6, 0.7, 0.8, 0.9, 0.95])
def test_hardly_more_are_selected_than_the_least_that_meet_the_target(target: int, p: float) -> None:
    """A tenth more than the exact binomial number, or one, at most: each of them works in vain."""
    slots = slots_for(target, over_selection=None, report_fraction=p)
    least = next(n for n in range(target, 10 * target + 10) if chance_of_target(target, slots=n, p=p) >= 0.949)
    assert least <= slots <= max(least + 1, 1.1 * least)


@pytest.mark.parametrize(
    ("present", "fraction", "waited", "starts"),
    [
        (0, 0.0, 0.0, True),  # nobody is waited for
        (4, 0.5, 0.0, False),
        (5, 0.5, 0.0, True),
        (4, 0.5, 59.9, False),
        (1, 0.5, 60.0, True),  # a small fleet has waited long enough
        (9, 1.0, 0.0, False),
        (10, 1.0, 0.0, True),
    ],
)
def test_a_round_starts_when_enough_clients_are_there_or_have_been_waited_for(
    present: int, fraction: float, waited: float, starts: bool
) -> None:
    assert starts == may_start(
        present, target_updates=10, start_fraction=fraction, waited_seconds=waited, start_wait_seconds=60.0
    )
