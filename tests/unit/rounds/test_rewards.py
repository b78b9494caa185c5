"""What one counted update earns."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.rounds.rewards import MICRO, Reward, RewardRules, rewards_for

RULES = RewardRules(base_tokens=10.0, speed_threshold_seconds=30.0, consistency_threshold=5)
SLOW, FAST = 31.0, 30.0


def reasons(rules: RewardRules = RULES, *, latency: float = SLOW, streak: int = 1, dropped: bool = False) -> list[str]:
    """Return why a client is paid."""
    return [r.reason for r in rewards_for(rules, latency_seconds=latency, streak=streak, dropped_before=dropped)]


def total(rules: RewardRules = RULES, *, latency: float = SLOW, streak: int = 1, dropped: bool = False) -> int:
    """Return what a client is paid, in micro-tokens."""
    rewards = rewards_for(rules, latency_seconds=latency, streak=streak, dropped_before=dropped)
    return sum(reward.micro_tokens for reward in rewards)


def test_a_slow_update_of_a_newcomer_earns_the_base_and_nothing_else() -> None:
    rewards = rewards_for(RULES, latency_seconds=SLOW, streak=1, dropped_before=False)
    assert rewards == [Reward("base", 10 * MICRO)]


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


def test_an_operator_who_pays_nothing_writes_nothing() -> None:
    assert reasons(replace(RULES, base_tokens=0.0), latency=FAST, streak=9, dropped=True) == []


@given(
    base=st.floats(0, 1e6),
    latency=st.floats(-10, 1e6),
    streak=st.integers(0, 50),
    dropped=st.booleans(),
)
def test_an_update_never_costs_its_client_anything(base: float, latency: float, streak: int, dropped: bool) -> None:
    rules = replace(RULES, base_tokens=base)
    rewards = rewards_for(rules, latency_seconds=latency, streak=streak, dropped_before=dropped)
    assert sum(reward.micro_tokens for reward in rewards) >= 0
    assert all(type(reward.micro_tokens) is int and reward.micro_tokens != 0 for reward in rewards)
    assert len({reward.reason for reward in rewards}) == len(rewards)


@given(latency=st.floats(0, 100), streak=st.integers(0, 10), dropped=st.booleans())
def test_being_faster_or_steadier_never_pays_less(latency: float, streak: int, dropped: bool) -> None:
    here = total(latency=latency, streak=streak, dropped=dropped)
    assert total(latency=latency / 2, streak=streak, dropped=dropped) >= here
    assert total(latency=latency, streak=streak + 1, dropped=dropped) >= here
    assert total(latency=latency, streak=streak, dropped=False) >= here
