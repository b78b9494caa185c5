"""The facts that the product keeps, one frozen record per row.

Times are Unix seconds. Versions are whole numbers from 1; `v3` is only how the API writes 3.
"""

from dataclasses import dataclass
from enum import StrEnum

from fed_compute.ids import AuditId, ClientId, Digest, JobId, RoundId, TaskId, TeamId, UpdateId
from fed_compute.rounds.audits import Verdict


class JobState(StrEnum):
    """Life of a job: RUNNING and PAUSED in turns, until it is FINISHED by its last round or STOPPED by an operator."""

    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"


RESTING_JOB_STATES = (JobState.PAUSED, JobState.STOPPED)
"""A job in one of these hands out no work of any kind. A finished one may still want its last version measured."""

OVER_JOB_STATES = (JobState.FINISHED, JobState.STOPPED)
"""States that a job never leaves."""


class RoundState(StrEnum):
    """Life of a round: OPEN → COLLECTING → AGGREGATING → CLOSED, or ABANDONED."""

    OPEN = "OPEN"
    COLLECTING = "COLLECTING"
    AGGREGATING = "AGGREGATING"
    CLOSED = "CLOSED"
    ABANDONED = "ABANDONED"


LIVE_ROUND_STATES = (RoundState.OPEN, RoundState.COLLECTING, RoundState.AGGREGATING)


class RoundMode(StrEnum):
    """Which rule closes a round. A round of `fedbuff` is a buffer that leases of earlier rounds report into too."""

    SYNC = "sync"
    ASYNC = "async"
    FEDBUFF = "fedbuff"


class TaskKind(StrEnum):
    """What a client is asked to do."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    AUDIT = "audit"


class TaskState(StrEnum):
    """Life of a lease: LEASED, then one of the others.

    LATE and OVERDUE are ended leases whose update came after all: of a CANCELLED one, which is nobody's
    failure, and of one that had EXPIRED or was RELEASED.
    """

    LEASED = "leased"
    REPORTED = "reported"
    EXPIRED = "expired"
    RELEASED = "released"
    CANCELLED = "cancelled"
    LATE = "late"
    OVERDUE = "overdue"


class UpdateState(StrEnum):
    """An accepted update is counted in its round, or listed as late when the round was given up."""

    ACCEPTED = "accepted"
    LATE = "late"


class Scope(StrEnum):
    """What a key may do: act for one client; read everything and change nothing; or do everything an operator can."""

    CLIENT = "client"
    OBSERVER = "observer"
    OPERATOR = "operator"


class ClientState(StrEnum):
    """Standing of a client: it takes part, it waits for an operator's approval, or it is shut out."""

    ACTIVE = "active"
    PENDING = "pending"
    BANNED = "banned"


@dataclass(frozen=True, slots=True)
class Job:
    """One training run. `spec` and `schema` are JSON texts that never change."""

    job_id: JobId
    name: str
    spec: str
    schema: str
    state: JobState
    created_at: float


@dataclass(frozen=True, slots=True)
class Client:
    """One registered machine. `state_reason` is an operator's word for a ban.

    `rounds_per_day` is how many training tasks it may take within 24 hours, None for any number; it
    came with the invitation `invite_id`, if there was one.
    """

    client_id: ClientId
    capabilities: str
    registered_at: float
    last_seen_at: float
    state: ClientState = ClientState.ACTIVE
    state_reason: str | None = None
    invite_id: str | None = None
    rounds_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key. Only an HMAC of its secret is kept.

    A rotated key names its successor in `rotated_to`; both are good until `expires_at` of the old one.
    `last_used_at` is known to within some seconds.
    """

    key_id: str
    secret_hmac: str
    scope: Scope
    client_id: ClientId | None
    created_at: float
    revoked_at: float | None
    label: str = ""
    expires_at: float | None = None
    last_used_at: float | None = None
    rotated_to: str | None = None

    def is_live(self, now: float) -> bool:
        """Say whether the key opens anything at this moment."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Invite:
    """An invitation for `uses` clients, of which `used` have come. Only an HMAC of its secret is kept.

    `created_by` is the operator's key that made it, `inviter` the client on whose word it was made.
    """

    invite_id: str
    secret_hmac: str
    label: str
    created_at: float
    created_by: str | None
    inviter: ClientId | None
    expires_at: float
    uses: int
    used: int = 0
    rounds_per_day: int | None = None
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """One round of one job.

    `number` counts within the job from 1 and repeats when a round was abandoned. `slots` is how many
    leases may be out or reported at once; under `fedbuff` how many of the job's may be out, whatever round
    they began in. `deadline_seconds` starts to run with the first lease or update. `max_staleness` is how
    many versions behind the round's base an update may have started. `soft_seconds` is how long its work
    should take by what was measured, None if nothing was; `gathering_since` is when somebody first asked
    for work that waited for more clients to be there. `left_seconds` is what is left of `deadline_seconds`
    while the job is paused and the deadline does not run; it is None at any other time.
    """

    round_id: RoundId
    job_id: JobId
    number: int
    base_version: int
    state: RoundState
    mode: RoundMode
    target_updates: int
    min_updates: int
    slots: int
    deadline_seconds: float
    opened_at: float
    started_at: float | None = None
    deadline: float | None = None
    closed_at: float | None = None
    result_version: int | None = None
    reason: str | None = None
    soft_seconds: float | None = None
    gathering_since: float | None = None
    max_staleness: int = 0
    left_seconds: float | None = None

    @property
    def is_paused(self) -> bool:
        """Whether the round waits for its job to be resumed: its deadline stands still, it grants no lease."""
        return self.left_seconds is not None

    @property
    def is_buffer(self) -> bool:
        """Whether leases outlive the round that they began in."""
        return self.mode is RoundMode.FEDBUFF

    def takes(self, base_version: int) -> bool:
        """Say whether an update that started from this version is young enough for the round."""
        return self.base_version - base_version <= self.max_staleness

    def keeps(self, lease: "Task") -> bool:
        """Say whether a lease that began in an earlier round may report into this one."""
        return self.is_buffer and self.takes(lease.base_version)

    def latest_end(self, *, leased_at: float) -> float | None:
        """Return when a lease to train must be over, None while the round's deadline does not run.

        That is the round's deadline. A lease that outlives its round may last as long as one: rounds come
        and go meanwhile, and are paused.
        """
        return leased_at + self.deadline_seconds if self.is_buffer else self.deadline

    def lasted_seconds(self, *, now: float) -> float | None:
        """Return how long the round has lasted, or did, without the pauses; None before it started."""
        if self.started_at is None:
            return None
        until = now if self.closed_at is None else self.closed_at
        if self.left_seconds is not None:
            return self.deadline_seconds - self.left_seconds
        paused_seconds = 0.0 if self.deadline is None else self.deadline - self.started_at - self.deadline_seconds
        return until - self.started_at - paused_seconds


@dataclass(frozen=True, slots=True)
class Task:
    """One lease: this client, this base version, until `deadline`. `round_id` is the round that it began in.

    `soft_deadline` is when the work should be done, `progress_at` when its progress last grew.
    """

    task_id: TaskId
    job_id: JobId
    round_id: RoundId
    client_id: ClientId
    kind: TaskKind
    state: TaskState
    base_version: int
    leased_at: float
    deadline: float
    heartbeats: bool
    progress: float = 0.0
    progress_at: float = 0.0
    soft_deadline: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """One accepted update. `update_id` is its place in the recorded sequence, `round_id` the round that counts it."""

    update_id: UpdateId
    task_id: TaskId
    job_id: JobId
    round_id: RoundId
    client_id: ClientId
    base_version: int
    state: UpdateState
    digest: Digest
    size_bytes: int
    encoding: str
    compression: str
    num_samples: int
    l2_norm: float
    loss: float | None
    received_at: float


@dataclass(frozen=True, slots=True)
class Version:
    """One model version and what it was made from.

    `manifest` is the JSON text `[[update_id, update digest, weight], …]` in folding order, empty for
    v1. `chain` is SHA-256 over the parent's chain, the manifest and the model digest, so that the
    history cannot be changed without changing every later version.
    """

    job_id: JobId
    version: int
    parent: int | None
    round_id: RoundId | None
    digest: Digest
    optimizer_digest: Digest | None
    manifest: str
    chain: Digest
    num_updates: int
    num_samples: int
    created_at: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A version measured by one client on its held-out data."""

    task_id: TaskId
    job_id: JobId
    version: int
    round_id: RoundId
    client_id: ClientId
    num_samples: int
    loss: float
    accuracy: float | None
    recorded_at: float


@dataclass(frozen=True, slots=True)
class Audit:
    """An accepted update that others look at. Open while `closed_at` is None, at most until `deadline`.

    `salt` decides by lot who may take part; nobody is told it. `score` is the median of the auditors' scores.
    """

    audit_id: AuditId
    update_id: UpdateId
    job_id: JobId
    round_id: RoundId
    client_id: ClientId
    auditors: int
    salt: str
    opened_at: float
    deadline: float
    closed_at: float | None = None
    verdict: Verdict | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """One auditor's part in an audit, and what it measured once `reported_at` is set.

    `loss` is None if the update made it NaN or infinite.
    """

    task_id: TaskId
    audit_id: AuditId
    client_id: ClientId
    num_samples: int | None = None
    base_loss: float | None = None
    loss: float | None = None
    reported_at: float | None = None


@dataclass(frozen=True, slots=True)
class Team:
    """Clients who count together. Only a digest of the code to join with is kept."""

    team_id: TeamId
    name: str
    code_digest: Digest
    founder: ClientId
    created_at: float


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal: what happened, to what. `payload` is a JSON object as text."""

    seq: int
    at: float
    kind: str
    job_id: JobId | None
    round_id: RoundId | None
    client_id: ClientId | None
    task_id: TaskId | None
    payload: str
