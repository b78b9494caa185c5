"""The gate: every check of an update, cheapest first, failing closed. Whoever fails one changes nothing.

Before any byte of the body:

1. authentication: the key is valid and its owner's
2. registration: its owner is a registered client
3. round: the client holds a task whose update some round of the job still takes: its own, or the buffer of now
4. rate: the client is within its limits
   (the server then looks at what the request announces: the exact type, no `Content-Encoding`, a
   length that an update of this job can have, a digest; an update that the task has is settled by that)

At the body's first bytes, and on the whole of it:

5. format: the head fits the announced length, a compressed body says a size within the recipe's; then
   the digest (the server's), container, schema, dtypes, strict metadata, sample count, steps, loss
6. values: all finite, not all zero, no longer than the job's limit and than recent updates leave room
   for, not the model itself; and at the commit, not a copy of another client's update of this round
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fed_compute.coordinator.auth import AuthManager
from fed_compute.coordinator.limits import LimitBook, UpdateLimits
from fed_compute.coordinator.rate_limiter import RateLimiter
from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.errors import (
    BufferBusy,
    ClientBanned,
    ClientNotFound,
    ClientPending,
    FedComputeError,
    LeaseExpired,
    NotAssigned,
    RateLimited,
    RoundNotFound,
    RoundOver,
    SampleCountInvalid,
    StepCountInvalid,
    TaskNotFound,
    UpdateIsModel,
    UpdateTooStale,
)
from fed_compute.ids import ClientId, JobId, RoundId, TaskId, format_version
from fed_compute.learning.privacy.protector import PrivacyProtector
from fed_compute.protocol.messages import MAX_NUM_SAMPLES
from fed_compute.protocol.schema import Vector
from fed_compute.protocol.updates import HEAD_BYTES, DecodedUpdate, check_head, decode_update
from fed_compute.rounds.records import (
    LIVE_ROUND_STATES,
    ClientState,
    Job,
    Round,
    RoundState,
    Task,
    TaskKind,
    TaskState,
)
from fed_compute.storage.sql.store import Records, Store

TOO_LATE = (RoundOver, LeaseExpired, UpdateTooStale)
"""The refusals of an update that is late and nothing else."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A client may send the update of this task. A task that has one already is told apart by digest."""

    task: Task
    job: Job
    limits: UpdateLimits


class UpdateValidator:
    """Runs the six checks. Writes nothing."""

    def __init__(self, store: Store, auth: AuthManager, rate_limiter: RateLimiter, limits: LimitBook) -> None:
        self._store = store
        self._auth = auth
        self._rate_limiter = rate_limiter
        self._limits = limits

    def admit_by_task(self, key: str | None, task_id: TaskId) -> Admission:
        """Run checks 1 to 4 for an update that names its task.

        Raises:
            AuthenticationFailed, ClientNotFound, TaskNotFound, RateLimited, and as `require_open`.
        """
        client_id = self._registered(self._auth.authenticate(key).client_id)

        def find(records: Records) -> Task:
            task = records.tasks.find(task_id)
            if task is None or task.client_id != client_id or task.kind is not TaskKind.TRAIN:
                raise TaskNotFound(task_id)
            return task

        return self._admit(find)

    def admit_by_round(self, key: str | None, client_id: str, round_id: RoundId) -> Admission:
        """Run checks 1 to 4 for an update that names its client and round, as those of the first API do.

        Raises:
            AuthenticationFailed, ClientNotFound, RoundNotFound, NotAssigned, RateLimited, and as `require_open`.
        """
        owner = self._registered(self._auth.require_client(key, client_id))

        def find(records: Records) -> Task:
            if records.rounds.find(round_id) is None:
                raise RoundNotFound(round_id)
            tasks = records.tasks.of_client_in_round(owner, round_id, TaskKind.TRAIN)
            if not tasks:
                raise NotAssigned(client_id=owner, round_id=round_id)
            # The newest by the clock, which may have been set back, is not always the one in hand.
            in_hand = (task for task in tasks if task.state in (TaskState.LEASED, TaskState.REPORTED))
            return next(in_hand, tasks[0])

        return self._admit(find)

    def admit_all(self, senders: Sequence[tuple[ClientId, TaskId]]) -> list[Admission | FedComputeError]:
        """Run checks 2 to 4 for the tasks of senders that are known to be who they say: check 1 is the caller's.

        Cost: three statements for thousands of them. What `admit_by_task` would raise stands in its sender's place.
        """
        with self._store.snapshot() as records:
            states = records.bulk.states([client_id for client_id, _ in senders])
            tasks = records.bulk.tasks([task_id for _, task_id in senders])
            found: list[tuple[Task, Job] | FedComputeError] = []
            rounds, jobs = dict[RoundId, Round](), dict[JobId, Job]()
            for client_id, task_id in senders:
                task = tasks.get(task_id)
                if (refusal := _no_sender(states.get(client_id), client_id)) is not None:
                    found.append(refusal)
                elif task is None or task.client_id != client_id or task.kind is not TaskKind.TRAIN:
                    found.append(TaskNotFound(task_id))
                else:
                    if task.round_id not in rounds:
                        rounds[task.round_id] = counting_round(records, task)
                        jobs[task.job_id] = records.jobs.get(task.job_id)
                    found.append(_open_or_refusal(task, rounds[task.round_id]) or (task, jobs[task.job_id]))
        limits = {round_id: self._limits.of(jobs[round_.job_id], round_id) for round_id, round_ in rounds.items()}
        return [
            one if isinstance(one, FedComputeError) else self._within_rate(*one, limits[one[0].round_id])
            for one in found
        ]

    def _within_rate(self, task: Task, job: Job, limits: UpdateLimits) -> Admission | RateLimited:
        try:
            self._rate_limiter.update(task.client_id)
        except RateLimited as refusal:
            return refusal
        return Admission(task, job, limits)

    def check_head(self, admission: Admission, head: bytes, *, total_bytes: int | None) -> None:
        """Run the first part of check 5 on a body's first bytes; `total_bytes` is its whole length, if it is known.

        Raises:
            UpdateMalformed: what was found and what was wanted.
        """
        wire = spec_of(admission.job).wire
        check_head(
            head,
            total_bytes=total_bytes,
            num_parameters=schema_of(admission.job).num_parameters,
            encoding=wire.encoding,
            compression=wire.compression,
            topk_fraction=wire.topk_fraction,
        )

    def decode(self, admission: Admission, body: bytes | memoryview) -> DecodedUpdate:
        """Run check 5 on a binary body.

        Raises:
            UpdateRefused: the subclass says what was found and what was wanted.
        """
        spec, schema = spec_of(admission.job), schema_of(admission.job)
        self.check_head(admission, bytes(body[:HEAD_BYTES]), total_bytes=len(body))
        decoded = decode_update(
            body,
            num_parameters=schema.num_parameters,
            schema_digest=schema.digest(),
            encoding=spec.wire.encoding,
            compression=spec.wire.compression,
            topk_fraction=spec.wire.topk_fraction,
        )
        self.check_samples(admission, decoded.num_samples)
        self.check_steps(admission, decoded.num_steps, num_samples=decoded.num_samples)
        return decoded

    def check_samples(self, admission: Admission, num_samples: int) -> None:
        """Check that an update claims no more samples than one may weigh.

        Raises:
            SampleCountInvalid: if it does.
        """
        if num_samples > admission.limits.max_num_samples:
            raise SampleCountInvalid(num_samples, limit=admission.limits.max_num_samples)

    def check_steps(self, admission: Admission, num_steps: int | None, *, num_samples: int) -> None:
        """Check that an update claims a number of steps that the job can mean, if the job counts them.

        At least as many as its epochs over the samples that it claims: with fewer it would count for more.

        Raises:
            StepCountInvalid: if it does not.
        """
        spec = spec_of(admission.job)
        if not spec.counts_steps:
            return
        least, limit = spec.training.num_steps(num_samples), spec.training.num_steps(MAX_NUM_SAMPLES)
        if num_steps is None or not least <= num_steps <= limit:
            raise StepCountInvalid("missing" if num_steps is None else num_steps, least=least, limit=limit)

    def check_values(self, admission: Admission, delta: Vector) -> float:
        """Run check 6 on an update, float32 (P,), but for copies; return its L2 norm.

        Raises:
            UpdateNotFinite, UpdateAllZero, UpdateNormTooLarge, UpdateIsModel.
        """
        task, limits = admission.task, admission.limits
        norm = PrivacyProtector(limits.max_norm, reason=limits.reason).check(delta)
        if self._limits.is_base_model(admission.job, task.base_version, delta, norm):
            raise UpdateIsModel(version=format_version(task.base_version))
        return norm

    def _registered(self, client_id: ClientId | None) -> ClientId:
        if client_id is None:
            raise ClientNotFound("operator")
        with self._store.snapshot() as records:
            if records.clients.find(client_id) is None:
                raise ClientNotFound(client_id)
        return client_id

    def _admit(self, find: Callable[[Records], Task]) -> Admission:
        with self._store.snapshot() as records:
            task = find(records)
            require_open(task, counting_round(records, task))
            job = records.jobs.get(task.job_id)
        self._rate_limiter.update(task.client_id)
        return Admission(task, job, self._limits.of(job, task.round_id))


def _no_sender(state: ClientState | None, client_id: ClientId) -> FedComputeError | None:
    """Return why nobody of this name may send anything, None if somebody may."""
    match state:
        case None:
            return ClientNotFound(client_id)
        case ClientState.BANNED:
            return ClientBanned()
        case ClientState.PENDING:
            return ClientPending()
    return None


def _open_or_refusal(task: Task, round_: Round) -> FedComputeError | None:
    try:
        require_open(task, round_)
    except (RoundOver, LeaseExpired, UpdateTooStale, BufferBusy) as refusal:
        return refusal
    return None


def counting_round(records: Records, task: Task) -> Round:
    """Return the round that would count an update of `task`: its own; after that one's end, the present buffer."""
    own = records.rounds.get(task.round_id)
    if own.state in LIVE_ROUND_STATES or not own.is_buffer:
        return own
    live = records.rounds.live(task.job_id)
    return live if live is not None and live.is_buffer else own


def require_open(task: Task, round_: Round) -> None:
    """Check that `round_` can still count an update of `task`. A task already reported passes.

    Raises:
        RoundOver: if the round has ended or is being aggregated.
        BufferBusy: if it is being aggregated and the next one can count the update.
        UpdateTooStale: if the update started too many versions before the round's.
        LeaseExpired: if the lease has ended while the round goes on.
    """
    if task.state is TaskState.REPORTED:
        return
    if round_.state is RoundState.AGGREGATING and round_.is_buffer and task.state is TaskState.LEASED:
        raise BufferBusy(round_id=round_.round_id)
    if round_.state not in (RoundState.OPEN, RoundState.COLLECTING):
        ran_out = task.state in (TaskState.EXPIRED, TaskState.OVERDUE)
        raise RoundOver(round_id=round_.round_id, state=round_.state, ran_out=ran_out)
    if not round_.takes(task.base_version):
        raise UpdateTooStale(
            base_version=task.base_version, version=round_.base_version, max_staleness=round_.max_staleness
        )
    if task.state is not TaskState.LEASED:
        raise LeaseExpired(task_id=task.task_id)
