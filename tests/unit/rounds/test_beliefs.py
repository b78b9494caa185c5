"""Beliefs: what repeated outcomes let one expect, and how they fade."""

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.rounds.beliefs import HALF_LIFE_SECONDS, Belief

outcomes = st.lists(st.floats(0, 1), max_size=60)


def believed(history: list[float], *, forgetting: float = 1.0, weight: float = 1.0) -> Belief:
    """Return the belief after outcomes that came all at once."""
    return reduce(lambda b, o: b.after(o, at=0.0, forgetting=forgetting, weight=weight), history, Belief())


@pytest.mark.parametrize(
    ("forgetting", "good", "bad", "expected", "lower"),
    [
        (1.0, 0, 0, 0.5, 0.0251),
        (1.0, 10, 0, 0.9167, 0.7906),
        (1.0, 10, 1, 0.8462, 0.6875),
        (0.95, 10, 0, 0.9003, 0.7518),
        (0.95, 10, 1, 0.8117, 0.6231),
        (0.95, 50, 3, 0.8137, 0.6762),
    ],
)
def test_the_numbers_are_those_of_the_published_formula(
    forgetting: float, good: int, bad: int, expected: float, lower: float
) -> None:
    """Jøsang and Ismail 2002, computed by hand elsewhere."""
    belief = believed([1.0] * good + [0.0] * bad, forgetting=forgetting)
    assert belief.expected == pytest.approx(expected, abs=5e-5)
    assert belief.lower_bound == pytest.approx(lower, abs=5e-5)


def test_the_weights_of_ten_good_outcomes_and_a_bad_one() -> None:
    belief = believed([1.0] * 10, forgetting=0.95)
    assert (belief.good, belief.bad) == (pytest.approx(8.0253, abs=5e-5), 0.0)
    after = belief.after(0.0, at=0.0, forgetting=0.95)
    assert (after.good, after.bad) == (pytest.approx(7.6240, abs=5e-5), 1.0)


@given(outcomes, st.floats(0.5, 1), st.floats(0.1, 10))
def test_what_is_expected_lies_between_nothing_and_everything(
    history: list[float], forgetting: float, weight: float
) -> None:
    belief = believed(history, forgetting=forgetting, weight=weight)
    assert 0 <= belief.lower_bound <= belief.expected < 1
    assert belief.expected > 0


@given(outcomes)
def test_a_good_outcome_raises_what_is_expected_and_a_bad_one_lowers_it(history: list[float]) -> None:
    before = believed(history, forgetting=0.95)
    better, worse = (before.after(outcome, at=0.0, forgetting=0.95) for outcome in (1.0, 0.0))
    assert better.expected > before.expected > worse.expected


def test_a_heavy_outcome_counts_as_so_many_light_ones() -> None:
    assert believed([0.0], weight=5.0) == believed([0.0] * 5)


@given(outcomes, st.floats(0, 1e9))
def test_idleness_loses_certainty_and_turns_nobody_from_good_to_bad(history: list[float], seconds: float) -> None:
    belief = believed(history)
    later = belief.faded(now=seconds)
    assert abs(later.expected - 0.5) <= abs(belief.expected - 0.5) + 1e-12
    assert (later.expected - 0.5) * (belief.expected - 0.5) >= 0
    assert later.good + later.bad <= belief.good + belief.bad


def test_half_of_the_evidence_is_left_after_a_half_life() -> None:
    belief = believed([1.0] * 8).faded(now=HALF_LIFE_SECONDS)
    assert (belief.good, belief.at) == (pytest.approx(4.0), HALF_LIFE_SECONDS)


@given(outcomes, st.floats(0, 1e7), st.floats(0, 1e7))
def test_fading_in_two_steps_is_fading_in_one(history: list[float], first: float, second: float) -> None:
    belief = believed(history)
    stepwise = belief.faded(now=first).faded(now=first + second)
    assert stepwise.good == pytest.approx(belief.faded(now=first + second).good)


def test_a_clock_that_was_set_back_changes_nothing() -> None:
    belief = Belief(3.0, 1.0, at=1000.0)
    assert belief.faded(now=10.0) == belief
    assert belief.after(1.0, at=10.0, forgetting=1.0) == Belief(4.0, 1.0, at=1000.0)
