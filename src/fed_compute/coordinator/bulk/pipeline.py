"""Taking in updates by the thousand.

    admit ── checks 2 to 4, together
    look inside ── checks 5 and 6, each update alone
    blobs ── durable, each under its digest
    commit ── update rows, tasks, round and journal of the whole batch in one transaction
    answer ── only now

If the round moves on within a batch, those up to that update are committed, and the rest begin anew: they meet the
round as it is then, as they would have one by one.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fed_compute.coordinator.copies import SAME_NORM, refuse_copy
from fed_compute.coordinator.pipeline import SETTLED, Accepted, Contents, accepted_line, as_late, same_or_refuse
from fed_compute.coordinator.recipes import spec_of
from fed_compute.coordinator.round_manager import RoundManager
from fed_compute.coordinator.update_validator import (
    TOO_LATE,
    Admission,
    UpdateValidator,
    counting_round,
    require_open,
)
from fed_compute.errors import BufferBusy, FedComputeError, UpdateConflict, UpdateRefused
from fed_compute.ids import ClientId, Digest, RoundId, TaskId
from fed_compute.rounds.machine import Looked, Progress, UpdateArrived, step
from fed_compute.rounds.records import Round, RoundState, Task, TaskKind, TaskState, Update
from fed_compute.storage.blobs import BlobStore
from fed_compute.storage.sql.journal import Line, line
from fed_compute.storage.sql.store import Records, Store

Answer = Accepted | FedComputeError
"""What became of one delivery; an error is what the single way would have raised."""


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """The update of a task as it arrived, Unix seconds. Who sent it is known: authentication is the caller's."""

    client_id: ClientId
    task_id: TaskId
    body: bytes
    received_at: float


@dataclass(frozen=True, slots=True, eq=False)
class _Checked:
    """A delivery that passed checks 2 to 6; its place among the answers."""

    place: int
    delivery: Delivery
    admission: Admission
    contents: Contents
    digest: Digest


class BulkPipeline:
    """Takes in batches of updates, by the checks and with the journal lines of `UpdatePipeline`."""

    def __init__(self, store: Store, blobs: BlobStore, validator: UpdateValidator, rounds: RoundManager) -> None:
        self._store = store
        self._blobs = blobs
        self._validator = validator
        self._rounds = rounds

    def accept(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        """Take updates in, in the order in which they came, and return an answer for each.

        Accepted ones are durable. What the single way would refuse is refused with the same error, and noted like
        there; what is too late is recorded as late.
        """
        answers: dict[int, Answer] = {}
        checked: list[_Checked] = []
        admitted = self._validator.admit_all([(one.client_id, one.task_id) for one in deliveries])
        for place, (delivery, admission) in enumerate(zip(deliveries, admitted, strict=True)):
            if isinstance(admission, FedComputeError):
                answers[place] = admission
                continue
            try:
                checked.append(self._look_inside(place, delivery, admission))
            except UpdateRefused as refusal:
                answers[place] = refusal
        while checked:
            with self._store.transaction() as records:
                done = _Batch(records, self._blobs, self._rounds, checked).commit()
            answers |= done
            checked = checked[len(done) :]
        self._note(deliveries, admitted, answers)
        return [answers[place] for place in range(len(deliveries))]

    def _look_inside(self, place: int, delivery: Delivery, admission: Admission) -> _Checked:
        wire = spec_of(admission.job).wire
        decoded = self._validator.decode(admission, delivery.body)
        norm = self._validator.check_values(admission, decoded.delta)
        contents = Contents(wire.encoding, wire.compression, decoded.num_samples, norm, decoded.loss, decoded.delta)
        return _Checked(place, delivery, admission, contents, self._blobs.put(delivery.body))

    def _note(
        self,
        deliveries: Sequence[Delivery],
        admitted: Sequence[Admission | FedComputeError],
        answers: dict[int, Answer],
    ) -> None:
        """Write down which updates were refused, by which code, and which came too late."""
        refused = {place: one.code for place, one in answers.items() if isinstance(one, UpdateRefused)}
        late = [place for place, one in answers.items() if isinstance(one, TOO_LATE)]
        if not refused and not late:
            return
        with self._store.transaction() as records:
            tasks = records.bulk.tasks([deliveries[place].task_id for place in (*refused, *late)])
            for place in refused:
                if isinstance(admitted[place], Admission):
                    at, code = deliveries[place].received_at, answers[place].code  # type: ignore[union-attr]
                    records.journal.append_all(
                        [_line("update_refused", tasks[deliveries[place].task_id], at, code=code)]
                    )
            for place in late:
                task, at = tasks[deliveries[place].task_id], deliveries[place].received_at
                if task.state not in SETTLED:
                    records.tasks.put(as_late(task, now=at))
                    latency_seconds = max(0.0, at - task.leased_at)
                    records.journal.append_all([_line("update_late", task, at, latency_seconds=latency_seconds)])


class _Batch:
    """One transaction: takes checked updates in, in order, until their round moves on or another round counts one."""

    def __init__(self, records: Records, blobs: BlobStore, rounds: RoundManager, checked: Sequence[_Checked]) -> None:
        self._records = records
        self._blobs = blobs
        self._rounds = rounds
        self._checked = checked
        self._tasks = records.bulk.tasks([one.delivery.task_id for one in checked])
        self._counting: dict[RoundId, Round] = {}
        self._new: list[tuple[_Checked, Update]] = []

    def commit(self) -> dict[int, Answer]:
        """Take in what one round counts, write it, and return the answers by place: of a first run of `checked`."""
        round_ = self._round_of(self._checked[0])
        answers = self._judge(round_)
        if not self._new:
            return answers
        if round_.state is RoundState.OPEN:
            round_ = self._rounds.apply(self._records, round_, UpdateArrived())
        ids = self._records.bulk.add_updates([update for _, update in self._new])
        lines = []
        for update_id, (one, update) in zip(ids, self._new, strict=True):
            accepted = Accepted(replace(update, update_id=update_id), repeated=False)
            answers[one.place] = accepted
            lines.append(accepted_line(accepted.update, one.admission.task, base_version=round_.base_version))
        self._records.journal.append_all(lines)
        self._rounds.apply(self._records, round_, Looked())
        return answers

    def _judge(self, round_: Round) -> dict[int, Answer]:
        """Find out which updates the round takes, and what the others are answered."""
        records, answers = self._records, dict[int, Answer]()
        reported = records.bulk.reported(round_.round_id, [one.delivery.client_id for one in self._checked])
        norms, awaits = records.bulk.norms(round_.round_id), self._progress(round_)
        for one in self._checked:
            task = self._tasks[one.delivery.task_id]
            if self._round_of(one).round_id != round_.round_id:
                break
            is_alike = _has_neighbour(norms, one.contents.l2_norm)
            if is_alike and self._new:
                break  # compared once those before it are on record
            if (answer := self._answer(one, task, round_, reported, is_alike=is_alike)) is not None:
                answers[one.place] = answer
                continue
            self._new.append((one, _row(one, task, round_)))
            self._tasks[task.task_id] = replace(task, state=TaskState.REPORTED)
            reported.add(task.client_id)
            insort(norms, one.contents.l2_norm)
            awaits = awaits.after(own=task.round_id == round_.round_id)
            if awaits.may_move(round_, now=one.delivery.received_at):
                break
        return answers

    def _answer(
        self, one: _Checked, task: Task, round_: Round, reported: set[ClientId], *, is_alike: bool
    ) -> Answer | None:
        """Return what is said to an update that changes nothing; None if it is new and sound."""
        contents, admission = one.contents, one.admission
        try:
            if task.state is TaskState.REPORTED:
                return same_or_refuse(self._records.updates.of_task(task.task_id), task, one.digest)
            require_open(task, round_)
            if task.client_id in reported:
                raise UpdateConflict(task_id=task.task_id)
            if is_alike:
                norm, round_id = contents.l2_norm, round_.round_id
                refuse_copy(self._records, self._blobs, admission, contents.delta, norm=norm, round_id=round_id)
        except (UpdateRefused, UpdateConflict, BufferBusy, *TOO_LATE) as refusal:
            return refusal
        return None

    def _round_of(self, one: _Checked) -> Round:
        task = self._tasks[one.delivery.task_id]
        if task.round_id not in self._counting:
            self._counting[task.round_id] = counting_round(self._records, task)
        return self._counting[task.round_id]

    def _progress(self, round_: Round) -> "_Awaits":
        tasks = self._records.tasks.count(round_.round_id, TaskKind.TRAIN)
        return _Awaits(self._records.updates.count(round_.round_id), tasks.get(TaskState.LEASED, 0))


@dataclass(frozen=True, slots=True)
class _Awaits:
    """How far a round is within a batch: updates that it has, and leases that are out."""

    num_updates: int
    num_leased: int

    def after(self, *, own: bool) -> "_Awaits":
        """Return how far it is one update later, of a lease of its own or of an earlier round's."""
        return _Awaits(self.num_updates + 1, self.num_leased - own)

    def may_move(self, round_: Round, *, now: float) -> bool:
        """Say whether the round must be looked at now. Who is awaited beside the leases is left to that look."""
        started = round_ if round_.state is not RoundState.OPEN else replace(round_, state=RoundState.COLLECTING)
        progress = Progress(self.num_updates, self.num_leased, num_awaited=0)
        return step(started, Looked(), progress, now=now) != started


def _has_neighbour(norms: Sequence[float], norm: float) -> bool:
    """Say whether one of the norms, ascending, is so near that its update may be the same."""
    place = bisect_left(norms, norm * (1 - SAME_NORM))
    return place < len(norms) and norms[place] <= norm * (1 + SAME_NORM)


def _row(one: _Checked, task: Task, round_: Round) -> Update:
    return one.contents.of_task(
        task,
        round_id=round_.round_id,
        digest=one.digest,
        size_bytes=len(one.delivery.body),
        received_at=one.delivery.received_at,
    )


def _line(kind: str, task: Task, at: float, **payload: object) -> Line:
    return line(
        kind,
        at=at,
        job_id=task.job_id,
        round_id=task.round_id,
        client_id=task.client_id,
        task_id=task.task_id,
        **payload,
    )
