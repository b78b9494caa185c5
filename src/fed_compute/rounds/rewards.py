"""Rewards: what one counted update earns, and why. Whole micro-tokens, never floats.

The seed's incentives: a base reward for each accepted update, a bonus for a fast one, a bonus for
coming again and again, and less after a dropout.
"""

from dataclasses import dataclass

MICRO = 1_000_000
"""Micro-tokens in one token."""

SPEED_SHARE = 0.25
CONSISTENCY_SHARE = 0.5
DROPOUT_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class RewardRules:
    """The numbers that an operator sets.

    Attributes:
        base_tokens: tokens for one counted update, at least 0.
        speed_threshold_seconds: an update within this time of its lease earns the speed bonus.
        consistency_threshold: so many updates in a row, without a dropout or refusal, earn the bonus.
    """

    base_tokens: float = 10.0
    speed_threshold_seconds: float = 30.0
    consistency_threshold: int = 5


@dataclass(frozen=True, slots=True)
class Reward:
    """One reason and its amount. Negative amounts are the dropout penalty."""

    reason: str
    micro_tokens: int


def rewards_for(rules: RewardRules, *, latency_seconds: float, streak: int, dropped_before: bool) -> list[Reward]:
    """Return what one counted update earns, as reasons that add up to at least zero.

    Args:
        rules: the operator's numbers.
        latency_seconds: from lease to update.
        streak: accepted updates in a row, this one included.
        dropped_before: whether the client dropped a task since its last counted update.
    """
    base = round(rules.base_tokens * MICRO)
    rewards = [Reward("base", base)]
    if latency_seconds <= rules.speed_threshold_seconds:
        rewards.append(Reward("speed_bonus", round(base * SPEED_SHARE)))
    if streak >= rules.consistency_threshold:
        rewards.append(Reward("consistency_bonus", round(base * CONSISTENCY_SHARE)))
    if dropped_before:
        rewards.append(Reward("dropout_penalty", -round(base * DROPOUT_SHARE)))
    return [reward for reward in rewards if reward.micro_tokens]
