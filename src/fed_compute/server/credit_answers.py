"""JSON answers about reputation, credit, teams, contributions and audits. Times are Unix seconds."""

from typing import Any, Literal

from fed_compute.protocol.messages import Answer

MICRO_TOKENS = 1_000_000
"""Micro-tokens in one token."""


class ReasonAnswer(Answer):
    """One event that moved a part of a reputation. `outcome` is from 0, bad, to 1, good."""

    event: str
    outcome: float
    weight: float
    at: float
    round_id: int | None


class BeliefAnswer(Answer):
    """One part of a reputation, as of now: what to expect, at least with 95 %, by how much evidence, and why."""

    score: float
    lower_bound: float
    good: float
    bad: float
    reasons: list[ReasonAnswer]


class QuotaAnswer(Answer):
    """How many tasks the client may take today, and how many of them it took."""

    per_day: int
    used_today: int


class ReputationAnswer(Answer):
    """One client's reputation. A rate without any observation is null; `reputation_score` is that of reliability."""

    client_id: str
    reputation_score: float
    reputation_lower_bound: float
    update_submission_rate: float | None
    update_acceptance_rate: float | None
    round_dropout_rate: float | None
    consistency_score: float | None
    mean_latency_seconds: float | None
    tasks_assigned: int
    updates_accepted: int
    updates_refused: int
    updates_late: int
    dropouts: int
    streak: int
    phase: Literal["newcomer", "established"]
    valid_in_a_row: int
    reliability: BeliefAnswer
    integrity: BeliefAnswer
    utility: BeliefAnswer
    quota: QuotaAnswer
    audits_passed: int
    audits_failed: int
    audit_probability: float
    may_audit: bool


class ReputationsAnswer(Answer):
    """`GET /reputation`."""

    total_clients: int
    reputations: list[ReputationAnswer]


class IncentiveEntry(Answer):
    """One reason why a balance changed: `tokens` of it in all, `pending_tokens` of them in escrow.

    `terms` are the numbers by which the amount was found, as they were then. `refers_to` is the group that
    a reversal takes back. A release moves what was pending into the client's own account.
    """

    group_id: int
    kind: str
    reason: str
    round_id: int | None
    task_id: str | None
    tokens: float
    micro_tokens: int
    pending_tokens: float
    at: float
    refers_to: int | None
    terms: dict[str, Any]


class IncentiveAnswer(Answer):
    """One client's balance. `micro_tokens` is exact, `total_tokens` the same as a decimal number.

    `pending_tokens` of it are in escrow until enough results in a row were valid.
    """

    client_id: str
    total_tokens: float
    micro_tokens: int
    pending_tokens: float


class IncentiveDetailsAnswer(IncentiveAnswer):
    """`GET /incentives/{client_id}`: the balance and its reasons, oldest first; `next` continues a long list.

    `recent_average` is in tokens a day, with a half-life of a week.
    """

    recent_average: float
    results_to_release: int
    entries: list[IncentiveEntry]
    next: str | None


class IncentivesAnswer(Answer):
    """`GET /incentives`."""

    total_clients: int
    total_tokens: float
    incentives: list[IncentiveAnswer]


class ReversalAnswer(Answer):
    """Credit that was taken back. `repeated` says that it had been already."""

    client_id: str
    task_id: str
    tokens: float
    micro_tokens: int
    repeated: bool


class TeamAnswer(Answer):
    """A team in short."""

    name: str
    founder: str
    created_at: float
    num_members: int


class TeamsAnswer(Answer):
    """`GET /teams`, by name: one page of `total`."""

    total: int
    offset: int
    teams: list[TeamAnswer]


class MemberAnswer(Answer):
    """A member, and since when."""

    client_id: str
    joined_at: float


class TeamDetailsAnswer(TeamAnswer):
    """`GET /teams/{name}`: the team, its members, and what they earned for it while they were members."""

    tokens: float
    micro_tokens: int
    members: list[MemberAnswer]


class TeamCodeAnswer(Answer):
    """A team and the code to join it. The code is shown here once and never again."""

    name: str
    code: str


class MembershipAnswer(Answer):
    """A membership began or ended."""

    name: str
    client_id: str
    is_member: bool


class ContributionAnswer(Answer):
    """What one client contributed to a round.

    `cosine` is that of its update to the sum of all, `cosine_to_others` to the sum of the others, null if
    there were none. `share` is of the importance that the round's clients have by their past cosines.
    `leave_one_out` is how far the sum turns without the update. `shapley` is null unless asked for.
    """

    client_id: str
    update_id: int
    cosine: float
    cosine_to_others: float | None
    share: float
    leave_one_out: float
    shapley: float | None


class ContributionsAnswer(Answer):
    """`GET /rounds/{round_id}/contribution`, in the order of the updates."""

    round_id: int
    measure: str
    num_updates: int
    contributions: list[ContributionAnswer]


class AuditAnswer(Answer):
    """One audit. `verdict` and `score` are null while it is open; a score of 0.1 says that the loss fell by a tenth."""

    audit_id: int
    update_id: int
    client_id: str
    auditors: int
    reported: int
    opened_at: float
    closed_at: float | None
    verdict: str | None
    score: float | None


class AuditsAnswer(Answer):
    """`GET /rounds/{round_id}/audits`, in the order of the updates."""

    round_id: int
    audits: list[AuditAnswer]
