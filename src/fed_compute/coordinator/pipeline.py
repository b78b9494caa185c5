"""The journey of one update, in order, on one screen.

    admit ── checks 1 to 4, before any byte of the body is read
    settle ── an update that the task has already is answered by its digest, also without the body
    (the caller streams the body to a file, hashing it; `check_head` judges its first bytes)
    look inside ── checks 5 and 6
    blob ── fsynced and renamed to its digest
    commit ── no copy of another's; then update row, task, round and journal in one transaction
    answer ── only now

A process that dies before the commit leaves nothing but an orphan blob; one that dies after it has
accepted the update, and a client that asks again gets the same answer.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fed_compute.coordinator.copies import refuse_copy
from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.coordinator.round_manager import RoundManager
from fed_compute.coordinator.update_validator import (
    TOO_LATE,
    Admission,
    UpdateValidator,
    counting_round,
    require_open,
)
from fed_compute.errors import UpdateConflict, UpdateRefused
from fed_compute.ids import ClientId, Digest, RoundId, TaskId, UpdateId
from fed_compute.protocol import tracing
from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.json_updates import parse_weight_delta
from fed_compute.protocol.messages import UpdateRequest
from fed_compute.protocol.schema import Vector
from fed_compute.protocol.updates import encode_update
from fed_compute.rounds.machine import Looked, UpdateArrived
from fed_compute.rounds.records import Round, RoundState, Task, TaskKind, TaskState, Update, UpdateState
from fed_compute.storage.blobs import BlobStore
from fed_compute.storage.sql.journal import Line, line, task_line
from fed_compute.storage.sql.store import Records, Store

SETTLED = (TaskState.REPORTED, TaskState.LATE, TaskState.OVERDUE)
"""The states of a task whose update has come, counted or late: a later one of it is not recorded again."""


NOWHERE_YET = UpdateId(0)
"""The place in the sequence of an update that is not on record."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An update that is durable. `repeated` says that it was already before this call."""

    update: Update
    repeated: bool


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """What is recorded of an update beside its blob, and its values, float32 (P,)."""

    encoding: str
    compression: str
    num_samples: int
    l2_norm: float
    loss: float | None
    delta: Vector

    def of_task(
        self,
        task: Task,
        update_id: UpdateId,
        *,
        round_id: RoundId,
        digest: Digest,
        size_bytes: int,
        received_at: float,
    ) -> Update:
        """Return the record of a task's update in the round that counts it, at a place in the sequence."""
        return Update(
            update_id=update_id,
            task_id=task.task_id,
            job_id=task.job_id,
            round_id=round_id,
            client_id=task.client_id,
            base_version=task.base_version,
            state=UpdateState.ACCEPTED,
            digest=digest,
            size_bytes=size_bytes,
            encoding=self.encoding,
            compression=self.compression,
            num_samples=self.num_samples,
            l2_norm=self.l2_norm,
            loss=self.loss,
            received_at=received_at,
        )


class UpdatePipeline:
    """Takes updates in. Everything about one update happens here or nowhere."""

    def __init__(self, store: Store, blobs: BlobStore, validator: UpdateValidator, rounds: RoundManager) -> None:
        self._store = store
        self._blobs = blobs
        self._validator = validator
        self._rounds = rounds

    def admit(self, key: str | None, task_id: TaskId) -> Admission:
        """Say whether an update of this task may be sent. One that is too late is recorded as late.

        Raises:
            Refused, NotNow: as `UpdateValidator.admit_by_task`.
        """
        try:
            return self._validator.admit_by_task(key, task_id)
        except TOO_LATE:
            self._record_late(task_id)
            raise

    def settle(self, admission: Admission, announced: Digest) -> Accepted | None:
        """Answer for a task that has its update already; None if it has none yet. No body is needed for that.

        Raises:
            UpdateConflict: if the update that it has is another one.
        """
        if admission.task.state is not TaskState.REPORTED:
            return None
        with self._store.snapshot() as records:
            return same_or_refuse(records.updates.of_task(admission.task.task_id), admission.task, announced)

    def check_head(self, admission: Admission, head: bytes, *, total_bytes: int | None) -> None:
        """Judge a body by its first bytes, before the rest is read. Quick, and notes nothing: see `note_refusal`.

        Raises:
            UpdateMalformed: what was found and what was wanted.
        """
        self._validator.check_head(admission, head, total_bytes=total_bytes)

    def note_refusal(self, task: Task, refusal: UpdateRefused) -> None:
        """Write into the journal that an update of a task was refused, and by which code."""
        with self._store.transaction() as records:
            self._note(records, "update_refused", task, code=refusal.code)

    def accept_file(self, admission: Admission, path: Path, digest: Digest) -> Accepted:
        """Take in a binary body that lies in a finished file. The file is moved away when it is accepted.

        Raises:
            UpdateRefused: if form or values are wrong. Noted in the journal, nothing else changes.
            UpdateConflict: if the task has another update.
            RoundOver, LeaseExpired, UpdateTooStale: if it became too late meanwhile. Recorded as late.
            BufferBusy: if a buffer closed meanwhile and the next one can count it. Nothing is recorded.
        """
        if (settled := self.settle(admission, digest)) is not None:
            return settled
        body, wire = path.read_bytes(), spec_of(admission.job).wire
        with tracing.span("validate update", attributes=_told(admission)), self._noted(admission.task):
            decoded = self._validator.decode(admission, body)
            norm = self._validator.check_values(admission, decoded.delta)
            contents = Contents(wire.encoding, wire.compression, decoded.num_samples, norm, decoded.loss, decoded.delta)
        keep = partial(self._blobs.put_file, path, digest)
        return self._store_and_commit(admission, contents, keep, digest=digest, size_bytes=len(body))

    def accept_json(self, key: str | None, request: UpdateRequest, *, max_bytes: int) -> Accepted:
        """Take in an update in the JSON form of the first API. It is kept as an uncompressed f32 body.

        One that does not say its number of samples counts as one batch of them.

        Raises:
            Refused, NotNow: as `UpdateValidator.admit_by_round`, and as `accept_file`.
        """
        round_id = RoundId(request.round_id)
        try:
            admission = self._validator.admit_by_round(key, request.client_id, round_id)
        except TOO_LATE:
            self._record_late_in_round(ClientId(request.client_id), round_id)
            raise
        with tracing.span("validate update", attributes=_told(admission)), self._noted(admission.task):
            body, contents = self._read_json(admission, request, max_bytes=max_bytes)
        digest = sha256_hex(body)
        if (settled := self.settle(admission, digest)) is not None:
            return settled  # nothing more to keep
        keep = partial(self._blobs.put, body, digest)
        return self._store_and_commit(admission, contents, keep, digest=digest, size_bytes=len(body))

    def _read_json(self, admission: Admission, request: UpdateRequest, *, max_bytes: int) -> tuple[bytes, Contents]:
        spec, schema = spec_of(admission.job), schema_of(admission.job)
        delta, extras = parse_weight_delta(request.weight_delta, schema, max_text_bytes=max_bytes)
        claimed = request.num_samples or extras.num_samples
        num_samples = claimed or min(spec.training.batch_size, admission.limits.max_num_samples)
        self._validator.check_samples(admission, num_samples)
        self._validator.check_steps(admission, request.num_steps, num_samples=num_samples)
        norm = self._validator.check_values(admission, delta)
        loss = request.loss if request.loss is not None else extras.final_loss
        body = encode_update(
            delta,
            encoding="f32",
            compression="none",
            topk_fraction=1.0,
            schema_digest=schema.digest(),
            num_samples=num_samples,
            loss=loss,
            train_seconds=None,
            num_steps=request.num_steps,
            rng=None,
        )
        return body, Contents("f32", "none", num_samples, norm, loss, delta)

    def _store_and_commit(
        self, admission: Admission, contents: Contents, keep: Callable[[], object], *, digest: Digest, size_bytes: int
    ) -> Accepted:
        """Make the body a blob by `keep`, then write everything that makes an update accepted, in one transaction.

        If it came twice at once, the first one is returned.
        """
        task = admission.task
        copied = partial(refuse_copy, blobs=self._blobs, admission=admission, delta=contents.delta)
        try:
            with tracing.span("commit update", attributes=_told(admission)), self._noted(task):
                with self._store.snapshot() as records:  # a copy leaves no blob
                    copied(records, norm=contents.l2_norm, round_id=counting_round(records, task).round_id)
                keep()
                with self._store.transaction() as records:
                    if (first := records.updates.of_task(task.task_id)) is not None:
                        return same_or_refuse(first, task, digest)
                    round_ = counting_round(records, task)
                    # of what was accepted meanwhile
                    copied(records, norm=contents.l2_norm, round_id=round_.round_id)
                    return self._insert(records, task, round_, contents, digest=digest, size_bytes=size_bytes)
        except TOO_LATE:
            self._record_late(task.task_id)
            raise

    def _insert(
        self, records: Records, task: Task, round_: Round, contents: Contents, *, digest: Digest, size_bytes: int
    ) -> Accepted:
        current = records.tasks.get(task.task_id)
        require_open(current, round_)
        now = self._rounds.now()
        update = contents.of_task(
            task, NOWHERE_YET, round_id=round_.round_id, digest=digest, size_bytes=size_bytes, received_at=now
        )
        update = replace(update, update_id=records.updates.add(update))
        records.tasks.put(replace(current, state=TaskState.REPORTED, progress=1.0, ended_at=now))
        told = tracing.headers()
        records.journal.append_all([accepted_line(update, task, base_version=round_.base_version, told=told)])
        if round_.state is RoundState.OPEN:
            round_ = self._rounds.apply(records, round_, UpdateArrived())
        self._rounds.apply(records, round_, Looked())
        return Accepted(update, repeated=False)

    @contextmanager
    def _noted(self, task: Task) -> Iterator[None]:
        try:
            yield
        except UpdateRefused as refusal:
            self.note_refusal(task, refusal)
            raise

    def _record_late(self, task_id: TaskId) -> None:
        """Record, once, that the update of an ended lease came after all."""
        with self._store.transaction() as records:
            task = records.tasks.find(task_id)
            if task is None or task.state in SETTLED:
                return
            now = self._rounds.now()
            records.tasks.put(as_late(task, now=now))
            self._note(records, "update_late", task, latency_seconds=max(0.0, now - task.leased_at))

    def _record_late_in_round(self, client_id: ClientId, round_id: RoundId) -> None:
        with self._store.snapshot() as records:
            tasks = records.tasks.of_client_in_round(client_id, round_id, TaskKind.TRAIN)
        for task in tasks[:1]:
            self._record_late(task.task_id)

    def _note(self, records: Records, kind: str, task: Task, **payload: object) -> None:
        records.journal.append_all([task_line(kind, task, at=self._rounds.now(), **payload)])


def _told(admission: Admission) -> dict[str, tracing.Value]:
    """Return what is told of an update in a trace. Not whose it is: the task says so to whoever may know."""
    task = admission.task
    return {
        "fed_compute.job": admission.job.name,
        "fed_compute.round_id": task.round_id,
        "fed_compute.task_id": task.task_id,
    }


def accepted_line(update: Update, task: Task, *, base_version: int, told: Mapping[str, str] | None = None) -> Line:
    """Return the journal's line for an accepted update of a task, counted in a round that changes `base_version`.

    `told` is what a trace wants to be told later.
    """
    return line(
        "update_accepted",
        at=update.received_at,
        job_id=task.job_id,
        round_id=update.round_id,
        client_id=task.client_id,
        task_id=task.task_id,
        update_id=update.update_id,
        num_samples=update.num_samples,
        size_bytes=update.size_bytes,
        l2_norm=update.l2_norm,
        loss=update.loss,
        latency_seconds=max(0.0, update.received_at - task.leased_at),
        staleness=base_version - task.base_version,
        **(told or {}),
    )


def as_late(task: Task, *, now: float) -> Task:
    """Return an ended lease as it is once its update came after all."""
    state = TaskState.OVERDUE if task.state in (TaskState.EXPIRED, TaskState.RELEASED) else TaskState.LATE
    return replace(task, state=state, ended_at=task.ended_at or now)


def same_or_refuse(first: Update | None, task: Task, digest: Digest) -> Accepted:
    """Return the update that a task already has, if it is the one that came again.

    Raises:
        UpdateConflict: if it has other bytes.
    """
    if first is None or first.digest != digest:
        raise UpdateConflict(task_id=task.task_id)
    return Accepted(first, repeated=True)
