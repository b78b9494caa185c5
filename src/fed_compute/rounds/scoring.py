"""Reputation: what a client's past says about its next task. A fold over journal facts.

The plain measures are shares of counts. Beside them stand three beliefs, apart because they mean
different things:

- *reliability*: a lease leads to an update in time. A lease that ran out is bad; late because the round
  had already got enough, or given back, is neutral.
- *integrity*: what is sent is what was asked for. An accepted update and a passed audit are good, a
  refused update is bad, a failed audit is bad five times over. Absence never lowers it.
- *utility*: what is sent moves the model the way the others move it. Shown, never paid for: whoever has
  unusual data is honest too.

Reputation may change who is audited, who may audit, and how many tasks a day a client may take. It
changes neither whether an update is accepted, nor its weight in the model, nor what it earns.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

from fed_compute.rounds.audits import Verdict
from fed_compute.rounds.beliefs import Belief
from fed_compute.rounds.quota import Quota, QuotaRules

NEWCOMER_RESULTS = 10
"""So many valid results in a row end the newcomer phase (BOINC)."""
FAILED_AUDIT_WEIGHT = 5.0
AUDITOR_LOWER_BOUND = 0.75
"""Integrity that an auditor has at least, with 95 % confidence."""
SUSPICIOUS_UTILITY = 0.4
"""A client whose updates pull against the others' is looked at; this proves nothing against it."""
LEAST_EVIDENCE = 3.0
REASONS_KEPT = 5


class Part(StrEnum):
    """One of the three things that reputation is made of."""

    RELIABILITY = "reliability"
    INTEGRITY = "integrity"
    UTILITY = "utility"


# About 20 outcomes count; for integrity about 100, so that a privilege takes long to earn.
FORGETTING: Mapping[Part, float] = {Part.RELIABILITY: 0.95, Part.INTEGRITY: 0.99, Part.UTILITY: 0.95}


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened, Unix seconds, and in which round."""

    at: float
    round_id: int | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """One event that moved a part of somebody's reputation. `outcome` is from 0, bad, to 1, good."""

    part: str
    event: str
    outcome: float
    weight: float
    at: float
    round_id: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one client. All counts are of tasks of kind `train`."""

    quota: Quota
    tasks_assigned: int = 0
    updates_accepted: int = 0
    updates_refused: int = 0
    updates_late: int = 0
    dropouts: int = 0
    streak: int = 0
    valid_in_a_row: int = 0
    latency_seconds_sum: float = 0.0
    rounds_closed_at_first: int = 0
    audits_passed: int = 0
    audits_failed: int = 0
    audits_passed_in_a_row: int = 0
    doubts_in_a_row: int = 0
    reliability: Belief = field(default_factory=Belief)
    integrity: Belief = field(default_factory=Belief)
    utility: Belief = field(default_factory=Belief)
    reasons: tuple[Reason, ...] = ()

    @classmethod
    def newcomer(cls, rules: QuotaRules) -> Self:
        """Return the standing of whoever was never seen before."""
        return cls(quota=Quota(rules.newcomer))

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote."""
        parts = {part.value: Belief(*kept[part]) for part in Part}
        reasons = tuple(Reason(*reason) for reason in kept["reasons"])
        return cls(**{**kept, **parts, "reasons": reasons, "quota": Quota(*kept["quota"])})

    def to_json(self) -> dict[str, Any]:
        """Return the standing as plain data, short, for it is written at every event."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        parts = {name: astuple(plain[name]) for name in (*Part, "quota")}
        return {**plain, **parts, "reasons": [astuple(reason) for reason in self.reasons]}

    @property
    def is_newcomer(self) -> bool:
        """Whether fewer than `NEWCOMER_RESULTS` results in a row were valid."""
        return self.valid_in_a_row < NEWCOMER_RESULTS

    @property
    def is_suspicious(self) -> bool:
        """Whether the next result should be audited whatever the past: a doubt, or updates against all others'."""
        known = self.utility.good + self.utility.bad >= LEAST_EVIDENCE
        return self.doubts_in_a_row > 0 or (known and self.utility.expected < SUSPICIOUS_UTILITY)

    def assigned(self, moment: Moment, *, rounds_closed: int) -> "Standing":
        """Return the standing after a task was handed out, `rounds_closed` rounds into history."""
        first = rounds_closed if self.tasks_assigned == 0 else self.rounds_closed_at_first
        return replace(
            self,
            tasks_assigned=self.tasks_assigned + 1,
            rounds_closed_at_first=first,
            quota=self.quota.taken(at=moment.at),
        )

    def accepted(self, moment: Moment, *, latency_seconds: float, rules: QuotaRules) -> "Standing":
        """Return the standing after an update was accepted `latency_seconds` after its lease began."""
        counted = replace(
            self,
            updates_accepted=self.updates_accepted + 1,
            streak=self.streak + 1,
            valid_in_a_row=self.valid_in_a_row + 1,
            latency_seconds_sum=self.latency_seconds_sum + latency_seconds,
            quota=self.quota.after_valid(rules),
        )
        in_time = counted._moved(Part.RELIABILITY, "update_accepted", 1.0, moment)
        return in_time._moved(Part.INTEGRITY, "update_accepted", 1.0, moment)

    def refused(self, moment: Moment) -> "Standing":
        """Return the standing after an update was refused."""
        counted = replace(
            self,
            updates_refused=self.updates_refused + 1,
            streak=0,
            valid_in_a_row=0,
            quota=self.quota.after_bad(),
        )
        return counted._moved(Part.INTEGRITY, "update_refused", 0.0, moment)

    def late(self) -> "Standing":
        """Return the standing after an update came when its round was over. Neutral but for the count."""
        return replace(self, updates_late=self.updates_late + 1)

    def dropped(self, moment: Moment) -> "Standing":
        """Return the standing after a lease ran out. One that was given back in time is no dropout."""
        counted = replace(self, dropouts=self.dropouts + 1, streak=0, quota=self.quota.after_bad())
        return counted._moved(Part.RELIABILITY, "task_expired", 0.0, moment)

    def contributed(self, moment: Moment, *, cosine: float) -> "Standing":
        """Return the standing after the contribution to a round was measured: `cosine` to the others, −1 to 1."""
        return self._moved(Part.UTILITY, "contribution_measured", (1.0 + cosine) / 2.0, moment)

    def audited(self, moment: Moment, *, verdict: Verdict, helped: bool) -> "Standing":
        """Return the standing after an audit of an update; `helped` says that it lowered the auditors' loss."""
        match verdict:
            case Verdict.PASSED:
                passed = replace(
                    self,
                    audits_passed=self.audits_passed + 1,
                    audits_passed_in_a_row=self.audits_passed_in_a_row + 1,
                    doubts_in_a_row=0,
                )._moved(Part.INTEGRITY, "audit_passed", 1.0, moment)
                return passed._moved(Part.UTILITY, "audit_passed", 1.0 if helped else 0.5, moment)
            case Verdict.DOUBTFUL:
                doubtful = replace(self, doubts_in_a_row=self.doubts_in_a_row + 1)
                return doubtful._moved(Part.UTILITY, "audit_doubtful", 0.0, moment)
            case Verdict.FAILED:
                failed = replace(
                    self,
                    audits_failed=self.audits_failed + 1,
                    audits_passed_in_a_row=0,
                    valid_in_a_row=0,
                    doubts_in_a_row=self.doubts_in_a_row + 1,
                    quota=self.quota.after_failed_audit(),
                )._moved(Part.INTEGRITY, "audit_failed", 0.0, moment, weight=FAILED_AUDIT_WEIGHT)
                return failed._moved(Part.UTILITY, "audit_failed", 0.0, moment)
        return self

    def _moved(self, part: Part, event: str, outcome: float, moment: Moment, *, weight: float = 1.0) -> "Standing":
        """Let an outcome move one part, and remember it among the last reasons for that part."""
        before: Belief = getattr(self, part)
        belief = before.after(outcome, at=moment.at, forgetting=FORGETTING[part], weight=weight)
        reason = Reason(part.value, event, outcome, weight, moment.at, moment.round_id)
        others = tuple(one for one in self.reasons if one.part != part)
        same = tuple(one for one in self.reasons if one.part == part)
        kept = (*others, *(*same, reason)[-REASONS_KEPT:])
        changes: dict[str, Any] = {part.value: belief, "reasons": kept}
        return replace(self, **changes)


def may_audit(standing: Standing | None, *, now: float) -> bool:
    """Say whether a client may judge others' updates. One of whom nothing is recorded may not."""
    if standing is None or standing.is_newcomer or standing.doubts_in_a_row:
        return False
    return standing.integrity.faded(now=now).lower_bound >= AUDITOR_LOWER_BOUND


@dataclass(frozen=True, slots=True)
class Measures:
    """The plain reputation measures. A share without any observation is None."""

    update_submission_rate: float | None
    update_acceptance_rate: float | None
    round_dropout_rate: float | None
    consistency_score: float | None
    mean_latency_seconds: float | None
    reputation_score: float
    reputation_lower_bound: float


def measure(standing: Standing, *, rounds_closed: int, now: float) -> Measures:
    """Compute the measures of a standing at `now`, `rounds_closed` closed rounds into the history."""
    answered = standing.updates_accepted + standing.updates_refused
    rounds_since_first = rounds_closed - standing.rounds_closed_at_first
    reliability = standing.reliability.faded(now=now)
    return Measures(
        update_submission_rate=_share(answered + standing.updates_late, standing.tasks_assigned),
        update_acceptance_rate=_share(standing.updates_accepted, answered),
        round_dropout_rate=_share(standing.dropouts, standing.tasks_assigned),
        consistency_score=_share(standing.updates_accepted, max(rounds_since_first, standing.updates_accepted)),
        mean_latency_seconds=(
            standing.latency_seconds_sum / standing.updates_accepted if standing.updates_accepted else None
        ),
        reputation_score=reliability.expected,
        reputation_lower_bound=reliability.lower_bound,
    )


def _share(part: int, whole: int) -> float | None:
    return min(1.0, part / whole) if whole else None
