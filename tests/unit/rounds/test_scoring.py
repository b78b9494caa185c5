"""Reputation: shares of counts, and a Beta score with forgetting."""

from collections.abc import Callable, Iterable
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.rounds.scoring import FORGETTING, Measures, Standing, measure

Outcome = Callable[[Standing], Standing]
MEMORY = 1 / (1 - FORGETTING)


def assigned(standing: Standing) -> Standing:
    return standing.assigned(rounds_closed=0)


def accepted(standing: Standing) -> Standing:
    return standing.accepted(latency_seconds=2.0)


def refused(standing: Standing) -> Standing:
    return standing.refused()


def late(standing: Standing) -> Standing:
    return standing.late()


def dropped(standing: Standing) -> Standing:
    return standing.dropped()


OUTCOMES = [assigned, accepted, refused, late, dropped]
histories = st.lists(st.sampled_from(OUTCOMES), max_size=60)


def after(history: Iterable[Outcome], start: Standing | None = None) -> Standing:
    """Return the standing at the end of a history."""
    return reduce(lambda standing, outcome: outcome(standing), history, start or Standing())


def measured(history: Iterable[Outcome], *, rounds_closed: int = 0) -> Measures:
    """Return the measures at the end of a history."""
    return measure(after(history), rounds_closed=rounds_closed)


def test_of_a_newcomer_nothing_is_known() -> None:
    measures = measured([])
    assert measures.reputation_score == 0.5
    assert measures.reputation_lower_bound == pytest.approx(0.0251, abs=1e-4)
    shares = (measures.update_submission_rate, measures.update_acceptance_rate, measures.round_dropout_rate)
    assert shares == (None, None, None)
    assert (measures.consistency_score, measures.mean_latency_seconds) == (None, None)


@pytest.mark.parametrize(
    ("good", "bad", "score", "lower"),
    [(10, 0, 0.9003, 0.7518), (10, 1, 0.8117, 0.6231), (50, 3, 0.8137, 0.6762)],
)
def test_the_score_is_that_of_the_published_formula(good: int, bad: int, score: float, lower: float) -> None:
    """Jøsang and Ismail 2002 with forgetting 0.95, computed by hand elsewhere."""
    measures = measured([accepted] * good + [dropped] * bad)
    assert measures.reputation_score == pytest.approx(score, abs=5e-5)
    assert measures.reputation_lower_bound == pytest.approx(lower, abs=5e-5)


@given(histories)
def test_every_measure_stays_in_its_range(history: list[Outcome]) -> None:
    measures = measured(history, rounds_closed=7)
    assert 0 <= measures.reputation_lower_bound <= measures.reputation_score < 1
    assert measures.reputation_score > 0
    for share in (
        measures.update_submission_rate,
        measures.update_acceptance_rate,
        measures.round_dropout_rate,
        measures.consistency_score,
    ):
        assert share is None or 0 <= share <= 1


@given(histories)
def test_reporting_raises_the_score_and_dropping_out_lowers_it(history: list[Outcome]) -> None:
    score = measured(history).reputation_score
    assert measured([*history, accepted]).reputation_score > score > measured([*history, dropped]).reputation_score


@given(histories)
@pytest.mark.parametrize("outcome", [assigned, refused, late])
def test_what_says_nothing_about_reliability_leaves_the_score(outcome: Outcome, history: list[Outcome]) -> None:
    """Too late because a round had enough is nobody's failure."""
    assert measured([*history, outcome]).reputation_score == measured(history).reputation_score


@given(histories)
def test_the_distant_past_is_forgotten(history: list[Outcome]) -> None:
    forgiven = measured([*history, *[accepted] * int(10 * MEMORY)]).reputation_score
    assert forgiven == pytest.approx(measured([accepted] * int(10 * MEMORY)).reputation_score, abs=1e-3)


@given(histories)
def test_what_is_remembered_is_bounded(history: list[Outcome]) -> None:
    standing = after(history)
    assert standing.reliability_good + standing.reliability_bad < MEMORY


def test_the_shares_are_those_of_the_counts() -> None:
    measures = measured([assigned] * 10 + [accepted] * 4 + [refused] + [late] * 2 + [dropped] * 3)
    assert measures.update_submission_rate == pytest.approx(0.7)
    assert measures.update_acceptance_rate == pytest.approx(0.8)
    assert measures.round_dropout_rate == pytest.approx(0.3)


def test_the_mean_latency_is_that_of_accepted_updates() -> None:
    standing = Standing().accepted(latency_seconds=1.0).late().accepted(latency_seconds=4.0)
    assert measure(standing, rounds_closed=0).mean_latency_seconds == 2.5


@pytest.mark.parametrize(
    ("ends", "streak"),
    [
        ([accepted, accepted, accepted], 3),
        ([accepted, late, accepted], 2),
        ([accepted, accepted, refused], 0),
        ([accepted, dropped, accepted], 1),
    ],
)
def test_a_streak_is_broken_by_a_refusal_or_a_dropout_only(ends: list[Outcome], streak: int) -> None:
    assert after(ends).streak == streak


def test_consistency_counts_the_rounds_since_the_first_task() -> None:
    """Whoever joins late is not blamed for the rounds before."""
    standing = Standing().assigned(rounds_closed=100).accepted(latency_seconds=1).accepted(latency_seconds=1)
    assert measure(standing, rounds_closed=104).consistency_score == 0.5
    assert measure(standing, rounds_closed=101).consistency_score == 1.0


def test_a_later_task_does_not_move_the_first_one() -> None:
    standing = Standing().assigned(rounds_closed=3).assigned(rounds_closed=9)
    assert (standing.tasks_assigned, standing.rounds_closed_at_first) == (2, 3)
