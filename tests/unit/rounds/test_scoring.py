"""Reputation: shares of counts, and three beliefs that are moved by different events."""

import json
from collections.abc import Callable, Iterable
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.rounds.audits import Verdict
from fed_compute.rounds.beliefs import HALF_LIFE_SECONDS
from fed_compute.rounds.quota import QuotaRules
from fed_compute.rounds.scoring import (
    FORGETTING,
    NEWCOMER_RESULTS,
    REASONS_KEPT,
    Measures,
    Moment,
    Part,
    Standing,
    may_audit,
    measure,
)

Outcome = Callable[[Standing], Standing]
RULES = QuotaRules(newcomer=4, ceiling=64)
NOW = Moment(0.0, 1)


def assigned(standing: Standing) -> Standing:
    return standing.assigned(NOW, rounds_closed=0)


def accepted(standing: Standing) -> Standing:
    return standing.accepted(NOW, latency_seconds=2.0, rules=RULES)


def refused(standing: Standing) -> Standing:
    return standing.refused(NOW)


def late(standing: Standing) -> Standing:
    return standing.late()


def dropped(standing: Standing) -> Standing:
    return standing.dropped(NOW)


def agreed(standing: Standing) -> Standing:
    return standing.contributed(NOW, cosine=0.9)


def opposed(standing: Standing) -> Standing:
    return standing.contributed(NOW, cosine=-0.9)


def passed(standing: Standing) -> Standing:
    return standing.audited(NOW, verdict=Verdict.PASSED, helped=True)


def doubted(standing: Standing) -> Standing:
    return standing.audited(NOW, verdict=Verdict.DOUBTFUL, helped=False)


def failed(standing: Standing) -> Standing:
    return standing.audited(NOW, verdict=Verdict.FAILED, helped=False)


def undecided(standing: Standing) -> Standing:
    return standing.audited(NOW, verdict=Verdict.UNDECIDED, helped=False)


OUTCOMES = [assigned, accepted, refused, late, dropped, agreed, opposed, passed, doubted, failed, undecided]
# Which events move which part, and whether up or down. Everything else leaves it as it is.
MOVES: dict[Part, dict[Outcome, bool]] = {
    Part.RELIABILITY: {accepted: True, dropped: False},
    Part.INTEGRITY: {accepted: True, passed: True, refused: False, failed: False},
    Part.UTILITY: {agreed: True, passed: True, opposed: False, doubted: False, failed: False},
}
histories = st.lists(st.sampled_from(OUTCOMES), max_size=60)


def after(history: Iterable[Outcome], start: Standing | None = None) -> Standing:
    """Return the standing at the end of a history."""
    return reduce(lambda standing, outcome: outcome(standing), history, start or Standing.newcomer(RULES))


def measured(history: Iterable[Outcome], *, rounds_closed: int = 0) -> Measures:
    """Return the measures at the end of a history."""
    return measure(after(history), rounds_closed=rounds_closed, now=0.0)


def expected(standing: Standing, part: Part) -> float:
    """Return what one part says."""
    return float(getattr(standing, part).expected)


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
def test_the_score_is_that_of_reliability(good: int, bad: int, score: float, lower: float) -> None:
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


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.__name__)
@given(history=histories)
def test_each_event_moves_the_parts_that_it_says_something_about(outcome: Outcome, history: list[Outcome]) -> None:
    """A laptop that was closed is no fraud, and unusual data is no dishonesty."""
    before = after(history)
    for part, moves in MOVES.items():
        change = expected(outcome(before), part) - expected(before, part)
        if outcome in moves:
            assert change > 0 if moves[outcome] else change < 0, part
        else:
            assert change == 0, part


def test_a_failed_audit_weighs_five_times_as_much_as_a_refusal() -> None:
    audit, refusals = after([failed]), after([refused] * 5)
    assert audit.integrity.bad == 5.0
    assert refusals.integrity.bad == pytest.approx(5.0, abs=0.11)


@given(histories)
def test_no_absence_lowers_integrity(history: list[Outcome]) -> None:
    before = after(history)
    for absence in (dropped, late, assigned):
        assert absence(before).integrity == before.integrity


@given(histories)
def test_the_distant_past_is_forgotten(history: list[Outcome]) -> None:
    memory = int(10 / (1 - FORGETTING[Part.RELIABILITY]))
    forgiven = measured([*history, *[accepted] * memory]).reputation_score
    assert forgiven == pytest.approx(measured([accepted] * memory).reputation_score, abs=1e-3)


@given(histories)
def test_what_is_remembered_is_bounded(history: list[Outcome]) -> None:
    standing = after(history)
    for part in Part:
        belief = getattr(standing, part)
        assert belief.good + belief.bad < 5 / (1 - FORGETTING[part])
    assert len(standing.reasons) <= REASONS_KEPT * len(Part)


def test_whoever_stays_away_loses_certainty() -> None:
    standing = after([accepted] * 10)
    here, later = (measure(standing, rounds_closed=0, now=now) for now in (0.0, HALF_LIFE_SECONDS))
    assert 0.5 < later.reputation_score < here.reputation_score
    assert later.reputation_lower_bound < here.reputation_lower_bound


def test_the_shares_are_those_of_the_counts() -> None:
    measures = measured([assigned] * 10 + [accepted] * 4 + [refused] + [late] * 2 + [dropped] * 3)
    assert measures.update_submission_rate == pytest.approx(0.7)
    assert measures.update_acceptance_rate == pytest.approx(0.8)
    assert measures.round_dropout_rate == pytest.approx(0.3)


def test_the_mean_latency_is_that_of_accepted_updates() -> None:
    standing = after([]).accepted(NOW, latency_seconds=1.0, rules=RULES).late()
    standing = standing.accepted(NOW, latency_seconds=4.0, rules=RULES)
    assert measure(standing, rounds_closed=0, now=0.0).mean_latency_seconds == 2.5


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
    standing = after([accepted, accepted], after([]).assigned(NOW, rounds_closed=100))
    assert measure(standing, rounds_closed=104, now=0.0).consistency_score == 0.5
    assert measure(standing, rounds_closed=101, now=0.0).consistency_score == 1.0


def test_a_later_task_does_not_move_the_first_one() -> None:
    standing = after([]).assigned(NOW, rounds_closed=3).assigned(NOW, rounds_closed=9)
    assert (standing.tasks_assigned, standing.rounds_closed_at_first) == (2, 3)


@pytest.mark.parametrize(
    ("history", "valid"),
    [
        ([accepted] * 9, 9),
        ([accepted] * 9 + [dropped, late, doubted, undecided, accepted], 10),
        ([accepted] * 9 + [refused, accepted], 1),
        ([accepted] * 9 + [failed, accepted], 1),
    ],
)
def test_ten_valid_results_in_a_row_end_the_newcomer_phase(history: list[Outcome], valid: int) -> None:
    standing = after(history)
    assert standing.valid_in_a_row == valid
    assert standing.is_newcomer == (valid < NEWCOMER_RESULTS)


@pytest.mark.parametrize(
    ("history", "per_day"),
    [([], 4), ([accepted], 8), ([accepted] * 9, 64), ([refused], 3), ([dropped], 3), ([accepted] * 9 + [failed], 1),
     ([late, undecided, doubted, passed], 4)],
)  # fmt: skip
def test_the_quota_follows_the_results(history: list[Outcome], per_day: int) -> None:
    assert after(history).quota.per_day == per_day


def test_each_task_uses_up_the_days_quota() -> None:
    assert after([assigned] * 3).quota.used_today(now=0.0) == 3


def test_audits_in_a_row_count_until_one_fails() -> None:
    standing = after([passed, passed, doubted, undecided, passed])
    assert (standing.audits_passed, standing.audits_passed_in_a_row, standing.audits_failed) == (3, 3, 0)
    standing = after([failed, passed], standing)
    assert (standing.audits_passed, standing.audits_passed_in_a_row, standing.audits_failed) == (4, 1, 1)


@pytest.mark.parametrize(
    ("history", "suspicious"),
    [
        ([], False),
        ([accepted] * 5 + [refused], False),
        ([doubted], True),
        ([failed], True),
        ([doubted, undecided], True),
        ([doubted, passed], False),
        ([opposed], False),
        ([opposed] * 5, True),
        ([opposed] * 5 + [agreed] * 5, False),
    ],
)
def test_a_doubt_or_pulling_against_all_others_makes_suspicious(history: list[Outcome], suspicious: bool) -> None:
    assert after(history).is_suspicious == suspicious


@pytest.mark.parametrize(
    ("history", "may"),
    [
        ([accepted] * 9, False),
        ([accepted] * 10, True),
        ([accepted] * 10 + [dropped] * 5, True),
        ([accepted] * 10 + [doubted], False),
        ([accepted] * 50 + [refused], False),
        ([accepted] * 50 + [failed, passed] + [accepted] * 10, True),
        ([refused] * 5 + [accepted] * 10, False),
    ],
)
def test_whoever_judges_others_has_a_good_name(history: list[Outcome], may: bool) -> None:
    assert may_audit(after(history), now=0.0) == may


def test_the_right_to_judge_fades_with_absence_and_strangers_have_none() -> None:
    standing = after([accepted] * 10)
    assert may_audit(standing, now=0.0)
    assert not may_audit(standing, now=HALF_LIFE_SECONDS)
    assert not may_audit(None, now=0.0)


def test_the_last_events_that_moved_a_part_are_told() -> None:
    standing = after([]).dropped(Moment(5.0, 7)).accepted(Moment(6.0, 8), latency_seconds=1.0, rules=RULES)
    told = [(r.part, r.event, r.outcome, r.at, r.round_id) for r in standing.reasons]
    assert told == [
        ("reliability", "task_expired", 0.0, 5.0, 7),
        ("reliability", "update_accepted", 1.0, 6.0, 8),
        ("integrity", "update_accepted", 1.0, 6.0, 8),
    ]


def test_only_the_last_reasons_are_kept_and_for_each_part() -> None:
    standing = after([failed, *[accepted] * 20])
    events = [reason.event for reason in standing.reasons if reason.part == Part.UTILITY]
    assert events == ["audit_failed"]
    assert len([reason for reason in standing.reasons if reason.part == Part.INTEGRITY]) == REASONS_KEPT


@given(histories)
def test_a_standing_comes_back_as_it_was_kept(history: list[Outcome]) -> None:
    standing = after(history)
    assert Standing.from_json(json.loads(json.dumps(standing.to_json()))) == standing
