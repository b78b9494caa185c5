"""Rewards: what one piece of work earns, and why. Whole micro-tokens, never floats.

Incentives: a base reward for each counted update, a bonus for a fast one, a bonus for coming
again and again, and less after a dropout. Work that came too late to be counted earns half of the base.
What is paid is work, never how useful it was: nobody can help having unusual data.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

MICRO = 1_000_000
"""Micro-tokens in one token."""
LARGEST_BASE_TOKENS = 10_000.0
"""With every bonus, a hundred million updates at this pay still fit into an account of 64 bits."""

SPEED_SHARE = 0.25
CONSISTENCY_SHARE = 0.5
DROPOUT_SHARE = 0.5
LATE_SHARE = 0.5
LARGEST_SPEED_FACTOR = 2.0

DAY_SECONDS = 86_400.0
AVERAGE_HALF_LIFE_SECONDS = 7 * DAY_SECONDS


@dataclass(frozen=True, slots=True)
class RewardRules:
    """The numbers that an operator sets.

    Attributes:
        base_tokens: tokens for one counted update, 0 to `LARGEST_BASE_TOKENS`.
        speed_threshold_seconds: an update within this time of its lease earns the speed bonus.
        consistency_threshold: so many updates in a row, without a dropout or refusal, earn the bonus.
        is_speed_curved: whether the speed bonus follows `speed_factor` instead of the threshold.
    """

    base_tokens: float = 10.0
    speed_threshold_seconds: float = 30.0
    consistency_threshold: int = 5
    is_speed_curved: bool = False


@dataclass(frozen=True, slots=True)
class Reward:
    """One reason, its amount, and the numbers that made it. Negative amounts are the dropout penalty."""

    reason: str
    micro_tokens: int
    terms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """What is known of one counted update.

    Attributes:
        latency_seconds: from lease to update.
        deadline_seconds: how long it should take: its round's measured soft time, else how long the round could last.
        streak: accepted updates in a row, this one included.
        dropped_before: whether the client dropped a task since its last counted update.
    """

    latency_seconds: float
    deadline_seconds: float
    streak: int
    dropped_before: bool


def rewards_for(rules: RewardRules, work: Work) -> list[Reward]:
    """Return what one counted update earns, as reasons that add up to at least zero. The base is always one."""
    base = round(rules.base_tokens * MICRO)
    rewards = [_speed_bonus(rules, work, base)]
    if work.streak >= rules.consistency_threshold:
        terms = {"streak": work.streak, "threshold": rules.consistency_threshold, "share": CONSISTENCY_SHARE}
        rewards.append(Reward("consistency_bonus", round(base * CONSISTENCY_SHARE), terms))
    if work.dropped_before:
        rewards.append(Reward("dropout_penalty", -round(base * DROPOUT_SHARE), {"share": DROPOUT_SHARE}))
    paid = Reward("base", base, {"base_tokens": rules.base_tokens})
    return [paid, *(reward for reward in rewards if reward.micro_tokens)]


def late_reward(rules: RewardRules) -> Reward:
    """Return what work earns that came too late to be counted."""
    base = round(rules.base_tokens * MICRO)
    return Reward("late", round(base * LATE_SHARE), {"base_tokens": rules.base_tokens, "share": LATE_SHARE})


def speed_factor(share_of_deadline: float) -> float:
    """Return Folding@home's quick-return factor max(1, √(0.75 / share)); the share is of the deadline, above 0."""
    return max(1.0, math.sqrt(0.75 / share_of_deadline))


def recent_average(average: float, *, last_at: float | None, now: float, began_at: float, amount: float) -> float:
    """Return a client's recent average, tokens a day with a half-life of a week, after `amount` tokens more.

    BOINC's formula (`update_average`). The first amount counts as earned since `began_at`, over a day at least.

    Args:
        average: the average at `last_at`.
        last_at: when it was last computed, None if never.
        now: Unix seconds; a clock that was set back lets no time pass.
        began_at: when the client began to work.
        amount: tokens earned at `now`; 0 to let time pass only.
    """
    if last_at is None:
        return amount / max(1.0, (now - began_at) / DAY_SECONDS)
    elapsed = max(0.0, now - last_at)
    kept = math.exp2(-elapsed / AVERAGE_HALF_LIFE_SECONDS)
    if 1.0 - kept <= 1e-6:  # the limit of the line below for a short time, where it would divide by nearly nothing
        return average + math.log(2.0) * amount * DAY_SECONDS / AVERAGE_HALF_LIFE_SECONDS
    return kept * average + (1.0 - kept) * amount / (elapsed / DAY_SECONDS)


@dataclass(frozen=True, slots=True)
class Earner:
    """What the incentives remember of one client between two entries of the journal."""

    streak: int = 0
    dropped: bool = False
    valid_in_a_row: int = 0
    num_counted: int = 0
    num_paid_late: int = 0
    average: float = 0.0
    average_at: float | None = None

    def came(self) -> "Earner":
        """Return the memory after an accepted update."""
        return replace(self, streak=self.streak + 1, valid_in_a_row=self.valid_in_a_row + 1)

    def refused(self) -> "Earner":
        """Return the memory after a refused update."""
        return replace(self, streak=0, valid_in_a_row=0)

    def dropped_out(self) -> "Earner":
        """Return the memory after a lease ran out."""
        return replace(self, streak=0, dropped=True)

    def failed_audit(self) -> "Earner":
        """Return the memory after a failed audit."""
        return replace(self, valid_in_a_row=0)

    @property
    def may_be_paid_late(self) -> bool:
        """Whether late work may be paid: never more of it than of counted work, for nobody looked into it."""
        return self.num_paid_late < self.num_counted

    def earned(self, tokens: float, *, at: float, began_at: float, counted: bool) -> "Earner":
        """Return the memory after work was paid, counted or late."""
        average = recent_average(self.average, last_at=self.average_at, now=at, began_at=began_at, amount=tokens)
        return replace(
            self,
            average=average,
            average_at=at if self.average_at is None else max(at, self.average_at),
            dropped=self.dropped and not counted,
            num_counted=self.num_counted + counted,
            num_paid_late=self.num_paid_late + (not counted),
        )


def _speed_bonus(rules: RewardRules, work: Work, base: int) -> Reward:
    if not rules.is_speed_curved:
        share = SPEED_SHARE if work.latency_seconds <= rules.speed_threshold_seconds else 0.0
        terms = {"latency_seconds": work.latency_seconds, "threshold_seconds": rules.speed_threshold_seconds}
        return Reward("speed_bonus", round(base * share), {**terms, "share": share})
    share_of_deadline = max(1e-9, work.latency_seconds) / work.deadline_seconds
    factor = min(LARGEST_SPEED_FACTOR, speed_factor(share_of_deadline))
    terms = {"latency_seconds": work.latency_seconds, "deadline_seconds": work.deadline_seconds, "factor": factor}
    return Reward("speed_bonus", round(base * (factor - 1.0)), terms)
