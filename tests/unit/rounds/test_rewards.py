"""What one counted update earns."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.rounds.rewards import (
    AVERAGE_HALF_LIFE_SECONDS,
    DAY_SECONDS,
    MICRO,
    Earner,
    Reward,
    RewardRules,
    Work,
    late_reward,
    recent_average,
    rewards_for,
    speed_factor,
)

RULES = RewardRules(base_tokens=10.0, speed_threshold_seconds=30.0, consistency_threshold=5)
SLOW, FAST = 31.0, 30.0


def earned(
    rules: RewardRules = RULES, *, latency: float = SLOW, streak: int = 1, dropped: bool = False, deadline: float = 300
) -> list[Reward]:
    """Return what a client is paid for one update."""
    return rewards_for(rules, Work(latency, deadline, streak, dropped))


def reasons(rules: RewardRules = RULES, **work: Any) -> list[str]:
    """Return why a client is paid."""
    return [reward.reason for reward in earned(rules, **work)]


def total(rules: RewardRules = RULES, **work: Any) -> int:
    """Return what a client is paid, in micro-tokens."""
    return sum(reward.micro_tokens for reward in earned(rules, **work))


def test_a_slow_update_of_a_newcomer_earns_the_base_and_nothing_else() -> None:
    assert earned() == [Reward("base", 10 * MICRO, {"base_tokens": 10.0})]


@pytest.mark.parametrize(
    ("latency", "streak", "dropped", "tokens"),
    [
        (SLOW, 4, False, 10.0),
        (FAST, 4, False, 12.5),
        (SLOW, 5, False, 15.0),
        (FAST, 5, False, 17.5),
        (SLOW, 4, True, 5.0),
        (FAST, 5, True, 12.5),
    ],
)
def test_bonuses_and_the_penalty_add_up(latency: float, streak: int, dropped: bool, tokens: float) -> None:
    assert total(latency=latency, streak=streak, dropped=dropped) == tokens * MICRO


@pytest.mark.parametrize(("latency", "paid"), [(0.0, True), (30.0, True), (30.001, False), (1e9, False)])
def test_the_speed_bonus_is_for_updates_within_the_threshold(latency: float, paid: bool) -> None:
    assert ("speed_bonus" in reasons(latency=latency)) == paid


@pytest.mark.parametrize(("streak", "paid"), [(1, False), (4, False), (5, True), (500, True)])
def test_the_consistency_bonus_is_for_a_long_enough_streak(streak: int, paid: bool) -> None:
    assert ("consistency_bonus" in reasons(streak=streak)) == paid


def test_a_dropout_costs_part_of_the_next_update() -> None:
    assert total(dropped=True) < total()
    assert reasons(dropped=True) == ["base", "dropout_penalty"]


def test_an_operator_who_pays_nothing_still_notes_each_update() -> None:
    nothing = earned(replace(RULES, base_tokens=0.0), latency=FAST, streak=9, dropped=True)
    assert [(reward.reason, reward.micro_tokens) for reward in nothing] == [("base", 0)]


def test_every_reason_comes_with_the_numbers_that_made_it() -> None:
    terms = {reward.reason: reward.terms for reward in earned(latency=FAST, streak=7, dropped=True)}
    assert terms == {
        "base": {"base_tokens": 10.0},
        "speed_bonus": {"latency_seconds": 30.0, "threshold_seconds": 30.0, "share": 0.25},
        "consistency_bonus": {"streak": 7, "threshold": 5, "share": 0.5},
        "dropout_penalty": {"share": 0.5},
    }


def test_late_work_earns_half_of_the_base_and_no_bonus() -> None:
    assert late_reward(RULES) == Reward("late", 5 * MICRO, {"base_tokens": 10.0, "share": 0.5})


@pytest.mark.parametrize(
    ("share", "factor"), [(0.05, 3.873), (0.1, 2.739), (0.2, 1.936), (0.4, 1.369), (0.75, 1.0), (5.0, 1.0)]
)
def test_the_speed_factor_is_folding_at_homes(share: float, factor: float) -> None:
    assert speed_factor(share) == pytest.approx(factor, abs=5e-4)


@pytest.mark.parametrize(
    ("latency", "bonus"), [(0.0, 10.0), (30, 10.0), (56.25, 10.0), (120, 3.693), (225, 0.0), (1e4, 0.0)]
)
def test_an_operator_may_pay_speed_by_the_share_of_the_deadline(latency: float, bonus: float) -> None:
    """At most as much again as the base."""
    curved = replace(RULES, is_speed_curved=True)
    assert total(curved, latency=latency, deadline=300) / MICRO == pytest.approx(10 + bonus, abs=5e-4)


def test_the_recent_average_follows_the_published_formula() -> None:
    """100 tokens over the first day, 100 over the second, then a week of nothing (BOINC's update_average)."""
    day_one = recent_average(0.0, last_at=None, now=DAY_SECONDS, began_at=0.0, amount=100.0)
    day_two = recent_average(day_one, last_at=DAY_SECONDS, now=2 * DAY_SECONDS, began_at=0.0, amount=100.0)
    idle = recent_average(day_two, last_at=2 * DAY_SECONDS, now=9 * DAY_SECONDS, began_at=0.0, amount=0.0)
    assert (day_one, day_two, idle) == (pytest.approx(100), pytest.approx(100), pytest.approx(50))


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(-1e7, 1e9))
def test_the_recent_average_never_explodes(average: float, amount: float, elapsed: float) -> None:
    now = recent_average(average, last_at=0.0, now=elapsed, began_at=0.0, amount=amount)
    assert 0 <= now <= average + amount


@given(st.floats(1e-9, 0.9))
def test_a_short_time_is_no_special_case(seconds: float) -> None:
    """The limit for short times meets the formula where the one takes over from the other."""
    here, there = (recent_average(5.0, last_at=0.0, now=t, began_at=0.0, amount=7.0) for t in (seconds, 1.0))
    assert here == pytest.approx(there, rel=1e-4)


def test_the_first_tokens_count_as_those_of_a_day_at_least() -> None:
    assert recent_average(0.0, last_at=None, now=1.0, began_at=0.0, amount=12.5) == 12.5


def test_half_of_the_average_is_left_after_a_week() -> None:
    earner = Earner().earned(80.0, at=0.0, began_at=0.0, counted=True)
    later = earner.earned(0.0, at=AVERAGE_HALF_LIFE_SECONDS, began_at=0.0, counted=True)
    assert (earner.average, later.average) == (80.0, pytest.approx(40.0))


def test_late_work_is_never_paid_more_often_than_counted_work() -> None:
    """Nobody looks into what comes late, so it must not be a living."""
    earner = Earner()
    assert not earner.may_be_paid_late
    earner = earner.earned(1.0, at=0.0, began_at=0.0, counted=True)
    assert earner.may_be_paid_late
    assert not earner.earned(1.0, at=0.0, began_at=0.0, counted=False).may_be_paid_late


def test_a_dropout_is_forgiven_by_counted_work_only() -> None:
    earner = Earner().dropped_out()
    assert earner.earned(1.0, at=0.0, began_at=0.0, counted=False).dropped
    assert not earner.earned(1.0, at=0.0, began_at=0.0, counted=True).dropped


def test_a_streak_and_the_newcomer_phase_end_differently() -> None:
    earner = Earner().came().came()
    ends = {"dropout": earner.dropped_out(), "refusal": earner.refused(), "audit": earner.failed_audit()}
    found = {name: (end.streak, end.valid_in_a_row) for name, end in ends.items()}
    assert found == {"dropout": (0, 2), "refusal": (0, 0), "audit": (2, 0)}


@given(
    base=st.floats(0, 1e6),
    latency=st.floats(0, 1e6),
    deadline=st.floats(1e-3, 1e6),
    streak=st.integers(0, 50),
    dropped=st.booleans(),
    curved=st.booleans(),
)
def test_an_update_never_costs_its_client_anything(
    base: float, latency: float, deadline: float, streak: int, dropped: bool, curved: bool
) -> None:
    rules = replace(RULES, base_tokens=base, is_speed_curved=curved)
    rewards = earned(rules, latency=latency, deadline=deadline, streak=streak, dropped=dropped)
    assert sum(reward.micro_tokens for reward in rewards) >= 0
    assert rewards[0].reason == "base"
    assert all(type(reward.micro_tokens) is int and reward.micro_tokens != 0 for reward in rewards[1:])
    assert len({reward.reason for reward in rewards}) == len(rewards)


@given(latency=st.floats(0, 100), streak=st.integers(0, 10), dropped=st.booleans(), curved=st.booleans())
def test_being_faster_or_steadier_never_pays_less(latency: float, streak: int, dropped: bool, curved: bool) -> None:
    rules = replace(RULES, is_speed_curved=curved)
    here = total(rules, latency=latency, streak=streak, dropped=dropped)
    assert total(rules, latency=latency / 2, streak=streak, dropped=dropped) >= here
    assert total(rules, latency=latency, streak=streak + 1, dropped=dropped) >= here
    assert total(rules, latency=latency, streak=streak, dropped=False) >= here
