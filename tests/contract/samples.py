"""Records to store: whole, plain, and different where a test says so."""

from dataclasses import replace

from fed_compute.ids import ClientId, Digest, JobId, RoundId, TaskId, UpdateId
from fed_compute.rounds.bookkeeping import MINT, GroupKind, Posting, account_of
from fed_compute.rounds.records import (
    ApiKey,
    Client,
    Evaluation,
    Invite,
    Job,
    Round,
    RoundMode,
    RoundState,
    Scope,
    Task,
    TaskKind,
    TaskState,
    Update,
    UpdateState,
    Version,
)
from fed_compute.storage.sql.store import Records

NOW = 1_700_000_000.25
DIGEST = Digest("ab" * 32)


def client(name: str) -> Client:
    """Return a client."""
    return Client(ClientId(name), capabilities='{"cpu":2}', registered_at=NOW, last_seen_at=NOW)


def key(key_id: str, client_id: str | None = None) -> ApiKey:
    """Return a key of a client, or an operator's."""
    owner = None if client_id is None else ClientId(client_id)
    scope = Scope.OPERATOR if owner is None else Scope.CLIENT
    return ApiKey(key_id, secret_hmac="0" * 64, scope=scope, client_id=owner, created_at=NOW, revoked_at=None)


def invite(invite_id: str, *, inviter: str | None = None, uses: int = 1) -> Invite:
    """Return an invitation."""
    return Invite(
        invite_id,
        secret_hmac="0" * 64,
        label="for é",
        created_at=NOW,
        created_by="k1",
        inviter=None if inviter is None else ClientId(inviter),
        expires_at=NOW + 60,
        uses=uses,
        rounds_per_day=3,
    )


def round_of(job: Job, *, number: int = 1, state: RoundState = RoundState.OPEN) -> Round:
    """Return a round that is not stored yet."""
    return Round(
        round_id=RoundId(0),
        job_id=job.job_id,
        number=number,
        base_version=1,
        state=state,
        mode=RoundMode.SYNC,
        target_updates=2,
        min_updates=1,
        slots=3,
        deadline_seconds=60.5,
        opened_at=NOW,
    )


def task_of(round_: Round, client_id: str, *, name: str = "", kind: TaskKind = TaskKind.TRAIN) -> Task:
    """Return a live lease."""
    return Task(
        task_id=TaskId(name or f"t_{client_id}"),
        job_id=round_.job_id,
        round_id=round_.round_id,
        client_id=ClientId(client_id),
        kind=kind,
        state=TaskState.LEASED,
        base_version=1,
        leased_at=NOW,
        deadline=NOW + 30,
        heartbeats=True,
    )


def update_of(task: Task) -> Update:
    """Return an update that is not stored yet."""
    return Update(
        update_id=UpdateId(0),
        task_id=task.task_id,
        job_id=task.job_id,
        round_id=task.round_id,
        client_id=task.client_id,
        base_version=1,
        state=UpdateState.ACCEPTED,
        digest=DIGEST,
        size_bytes=2**40,
        encoding="f32",
        compression="zstd",
        num_samples=2**40,
        l2_norm=1 / 3,
        loss=None,
        received_at=NOW,
    )


def version_of(job_id: JobId, number: int, round_id: RoundId | None = None) -> Version:
    """Return a version that is not stored yet."""
    return Version(
        job_id=job_id,
        version=number,
        parent=number - 1 or None,
        round_id=round_id,
        digest=DIGEST,
        optimizer_digest=None,
        manifest="[]",
        chain=DIGEST,
        num_updates=0,
        num_samples=0,
        created_at=NOW,
    )


def evaluation_of(task: Task, *, accuracy: float | None) -> Evaluation:
    """Return a measurement."""
    return Evaluation(
        task_id=task.task_id,
        job_id=task.job_id,
        version=1,
        round_id=task.round_id,
        client_id=task.client_id,
        num_samples=10,
        loss=0.1,
        accuracy=accuracy,
        recorded_at=NOW,
    )


def add_job(records: Records, *clients: str, name: str = "default") -> tuple[Job, Round]:
    """Store a job with v1, its first round, and some clients."""
    for client_name in clients:
        records.clients.add(client(client_name))
    job = records.jobs.add(name=name, spec="{}", schema="[]", now=NOW)
    records.versions.add(version_of(job.job_id, 1))
    return job, records.rounds.add(round_of(job))


def add_update(records: Records, task: Task) -> Update:
    """Store a task and its update."""
    records.tasks.add(replace(task, state=TaskState.REPORTED, ended_at=NOW))
    update = update_of(task)
    return replace(update, update_id=records.updates.add(update))


def grant(records: Records, key_: str, client_id: str, *, micro_tokens: int = 1, team_id: int | None = None) -> bool:
    """Pay a client once for a key."""
    owner = ClientId(client_id)
    entries = ((MINT, -micro_tokens), (account_of(owner), micro_tokens))
    posting = Posting(key_, GroupKind.GRANT, owner, "base", NOW, entries, round_id=RoundId(1), team_id=team_id)
    return records.ledger.post(posting)
