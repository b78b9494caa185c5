"""Reputation: what a client's past says about its next task. A fold over journal facts.

The seed's measures are plain shares of counts. The score is the expected value of a Beta
distribution with forgetting (Jøsang and Ismail 2002): r and s fade by `FORGETTING` at each outcome,
so about the last 20 outcomes count. Only outcomes that say something about reliability move it: a
lease that reported in time, or one that was dropped. Late because the round had already got enough
is neutral.
"""

import math
from dataclasses import dataclass, replace

FORGETTING = 0.95
Z_95 = 1.645


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one client. All counts are of tasks of kind `train`."""

    tasks_assigned: int = 0
    updates_accepted: int = 0
    updates_refused: int = 0
    updates_late: int = 0
    dropouts: int = 0
    streak: int = 0
    latency_seconds_sum: float = 0.0
    reliability_good: float = 0.0
    reliability_bad: float = 0.0
    rounds_closed_at_first: int = 0

    def assigned(self, *, rounds_closed: int) -> "Standing":
        """Return the standing after a task was handed out, `rounds_closed` rounds into history."""
        first = rounds_closed if self.tasks_assigned == 0 else self.rounds_closed_at_first
        return replace(self, tasks_assigned=self.tasks_assigned + 1, rounds_closed_at_first=first)

    def accepted(self, *, latency_seconds: float) -> "Standing":
        """Return the standing after an update was accepted `latency_seconds` after its lease began."""
        counted = replace(
            self,
            updates_accepted=self.updates_accepted + 1,
            streak=self.streak + 1,
            latency_seconds_sum=self.latency_seconds_sum + latency_seconds,
        )
        return counted._observed(good=1.0)

    def refused(self) -> "Standing":
        """Return the standing after an update was refused."""
        return replace(self, updates_refused=self.updates_refused + 1, streak=0)

    def late(self) -> "Standing":
        """Return the standing after an update came when its round was over. Neutral but for the count."""
        return replace(self, updates_late=self.updates_late + 1)

    def dropped(self) -> "Standing":
        """Return the standing after a lease ran out. One that was given back in time is no dropout."""
        return replace(self, dropouts=self.dropouts + 1, streak=0)._observed(good=0.0)

    def _observed(self, *, good: float) -> "Standing":
        return replace(
            self,
            reliability_good=FORGETTING * self.reliability_good + good,
            reliability_bad=FORGETTING * self.reliability_bad + (1.0 - good),
        )


@dataclass(frozen=True, slots=True)
class Measures:
    """The seed's reputation measures. A share without any observation is None."""

    update_submission_rate: float | None
    update_acceptance_rate: float | None
    round_dropout_rate: float | None
    consistency_score: float | None
    mean_latency_seconds: float | None
    reputation_score: float
    reputation_lower_bound: float


def measure(standing: Standing, *, rounds_closed: int) -> Measures:
    """Compute the measures of a standing, `rounds_closed` closed rounds into the history."""
    answered = standing.updates_accepted + standing.updates_refused
    rounds_since_first = rounds_closed - standing.rounds_closed_at_first
    good, bad = standing.reliability_good, standing.reliability_bad
    expected = (good + 1.0) / (good + bad + 2.0)
    spread = math.sqrt(expected * (1.0 - expected) / (good + bad + 3.0))
    return Measures(
        update_submission_rate=_share(answered + standing.updates_late, standing.tasks_assigned),
        update_acceptance_rate=_share(standing.updates_accepted, answered),
        round_dropout_rate=_share(standing.dropouts, standing.tasks_assigned),
        consistency_score=_share(standing.updates_accepted, max(rounds_since_first, standing.updates_accepted)),
        mean_latency_seconds=(
            standing.latency_seconds_sum / standing.updates_accepted if standing.updates_accepted else None
        ),
        reputation_score=expected,
        reputation_lower_bound=max(0.0, expected - Z_95 * spread),
    )


def _share(part: int, whole: int) -> float | None:
    return min(1.0, part / whole) if whole else None
