"""Audits: who is looked at, by whom, and what the numbers mean."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.rounds.audits import (
    CALIBRATED_FROM,
    LEAST_HARM,
    LOTTERY_DOUBLES_SECONDS,
    LOWEST_SCORE,
    UNCALIBRATED_LIMIT,
    Candidate,
    Verdict,
    audit_probability,
    choose_audited,
    is_drawn,
    loss_score,
    lower_limit,
    quorum,
    verdict_on,
)

scores = st.lists(st.floats(-5, 1), max_size=30)


def share_audited(results: int) -> float:
    """Return the share of so many results that are audited in the mean, from ten passed audits in a row on."""
    passed = 10.0
    for _ in range(results):
        passed += audit_probability(math.floor(passed), least=0.0) * math.floor(passed) / passed
    return (passed - 10.0) / results


@pytest.mark.parametrize(("results", "share"), [(1_000, 0.036), (10_000, 0.013)])
def test_proven_clients_are_audited_as_rarely_as_in_boinc(results: int, share: float) -> None:
    """n grows by 1/n a result, so it is about √(100 + 2·results)."""
    assert share_audited(results) == pytest.approx(share, abs=5e-4)


def test_the_draws_themselves_give_that_share() -> None:
    rng, passed, audited = np.random.default_rng(1), 10, 0
    for _ in range(10_000):
        if choose_audited([Candidate(1, passed, suspicious=False)], rng):
            passed, audited = passed + 1, audited + 1
    assert audited == pytest.approx(140, abs=35)  # 1.4 %, for nobody is looked at less than once in a hundred


@pytest.mark.parametrize(("passed", "probability"), [(0, 1), (9, 1), (10, 0.1), (50, 0.02), (10_000, 0.01)])
def test_the_first_ten_are_always_due_and_nobody_ever_is_safe(passed: int, probability: float) -> None:
    assert audit_probability(passed) == probability
    assert audit_probability(passed, suspicious=True) == 1.0


def test_at_most_a_quarter_of_a_round_is_audited_and_the_suspicious_first() -> None:
    newcomers = [Candidate(number, 0, suspicious=number in (7, 31)) for number in range(40)]
    chosen = choose_audited(newcomers, np.random.default_rng(0))
    assert len(chosen) == 10
    assert set(chosen[:2]) == {7, 31}


def test_a_small_round_has_one_audit() -> None:
    newcomers = [Candidate(number, 0, suspicious=False) for number in range(3)]
    drawn = {choose_audited(newcomers, np.random.default_rng(seed))[0] for seed in range(50)}
    assert drawn == {0, 1, 2}


def test_a_round_of_nobody_has_none() -> None:
    assert choose_audited([], np.random.default_rng(0)) == []


@given(st.text(max_size=8), st.integers(1, 15), st.integers(0, 10_000), st.floats(0, 1e6))
def test_whoever_was_drawn_stays_drawn_and_in_the_end_everybody_is(
    salt: str, auditors: int, active: int, waited: float
) -> None:
    now = is_drawn(salt, "anna", auditors=auditors, active_clients=active, waited_seconds=waited)
    later = is_drawn(salt, "anna", auditors=auditors, active_clients=active, waited_seconds=waited + 60)
    assert later or not now
    assert is_drawn(salt, "anna", auditors=auditors, active_clients=active, waited_seconds=1e4)


def test_at_first_about_twice_as_many_are_drawn_as_are_needed() -> None:
    def drawn(waited: float) -> int:
        names = [f"client-{number}" for number in range(2000)]
        return sum(is_drawn("s", name, auditors=3, active_clients=2000, waited_seconds=waited) for name in names)

    assert 1 <= drawn(0) <= 15
    assert drawn(5 * LOTTERY_DOUBLES_SECONDS) == pytest.approx(192, abs=50)


def test_the_lottery_is_another_one_for_every_audit() -> None:
    names = [f"client-{number}" for number in range(300)]

    def winners(salt: str) -> set[str]:
        return {name for name in names if is_drawn(salt, name, auditors=10, active_clients=300, waited_seconds=0)}

    assert winners("one") != winners("two")


@pytest.mark.parametrize(
    ("base", "loss", "score"),
    [
        (2.0, 1.0, 0.5),
        (2.0, 4.0, -1.0),
        (2.0, 2.0, 0.0),
        (2.0, None, LOWEST_SCORE),
        (0.0, 1.0, LOWEST_SCORE),
        (0, 0, 0),
    ],
)
def test_the_score_is_the_share_by_which_the_loss_fell(base: float, loss: float | None, score: float) -> None:
    assert loss_score(base, loss) == score


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_every_score_is_a_number(base: float, loss: float) -> None:
    assert loss_score(base, loss) >= LOWEST_SCORE


@given(scores, scores)
def test_an_update_that_helps_is_never_bad(auditors: list[float], passed: list[float]) -> None:
    helping = [abs(score) for score in auditors] or [0.1]
    assert verdict_on(helping, passed_scores=passed, doubts_before=2) is Verdict.PASSED


def test_before_enough_is_known_only_great_harm_is_bad() -> None:
    few = [0.01] * (CALIBRATED_FROM - 1)
    assert lower_limit(few) == UNCALIBRATED_LIMIT
    assert verdict_on([-0.9], passed_scores=few, doubts_before=0) is Verdict.PASSED
    assert verdict_on([-1.1], passed_scores=few, doubts_before=0) is Verdict.DOUBTFUL


def test_the_limit_follows_what_is_usual_in_the_job() -> None:
    alike, unlike = [0.010, 0.011, 0.012] * 5, [-0.1, -0.4, -0.7] * 5
    flipped = [-0.011]
    assert verdict_on(flipped, passed_scores=alike, doubts_before=0) is Verdict.DOUBTFUL
    assert verdict_on(flipped, passed_scores=unlike, doubts_before=0) is Verdict.PASSED
    assert verdict_on([-0.75], passed_scores=unlike, doubts_before=0) is Verdict.PASSED
    assert verdict_on([-28.0], passed_scores=unlike, doubts_before=0) is Verdict.DOUBTFUL


def test_where_updates_do_nothing_any_more_next_to_no_harm_is_no_harm() -> None:
    """All scores alike leave no spread; whoever lies a hair below them is honest all the same."""
    for passed in ([0.0] * 20, [0.002] * 20):
        assert verdict_on([-1e-9], passed_scores=passed, doubts_before=2) is Verdict.PASSED
        assert verdict_on([-LEAST_HARM], passed_scores=passed, doubts_before=2) is Verdict.PASSED
        assert verdict_on([-2 * LEAST_HARM], passed_scores=passed, doubts_before=2) is Verdict.FAILED


@pytest.mark.parametrize(
    ("before", "verdict"), [(0, Verdict.DOUBTFUL), (1, Verdict.DOUBTFUL), (2, Verdict.FAILED), (9, Verdict.FAILED)]
)
def test_a_bad_score_proves_nothing_until_the_third_one_in_a_row(before: int, verdict: Verdict) -> None:
    assert verdict_on([-5.0, -6.0, -7.0], passed_scores=[], doubts_before=before) is verdict


def test_a_single_lying_auditor_changes_no_verdict() -> None:
    for lie in (-1000.0, 1.0):
        assert verdict_on([0.01, 0.02, lie], passed_scores=[], doubts_before=2) is Verdict.PASSED
        assert verdict_on([-3.0, -4.0, lie], passed_scores=[], doubts_before=2) is Verdict.FAILED


@given(scores.filter(bool), scores, st.integers(0, 4))
def test_the_verdict_is_that_of_the_median(auditors: list[float], passed: list[float], before: int) -> None:
    middle = [statistics.median(auditors)]
    both = [verdict_on(given, passed_scores=passed, doubts_before=before) for given in (auditors, middle)]
    assert both[0] is both[1]


def test_without_an_answer_nothing_is_decided() -> None:
    assert verdict_on([], passed_scores=[], doubts_before=2) is Verdict.UNDECIDED


@pytest.mark.parametrize(("auditors", "enough"), [(1, 1), (2, 2), (3, 2), (5, 3)])
def test_more_than_half_of_the_auditors_must_answer(auditors: int, enough: int) -> None:
    assert quorum(auditors) == enough
