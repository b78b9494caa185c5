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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

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
from fed_compute.errors import BufferBusy, FedComputeError, InvariantBroken, UpdateConflict, UpdateRefused
from fed_compute.ids import ClientId, Digest, RoundId, TaskId, UpdateId
from fed_compute.protocol.digests import sha256_hex
from fed_compute.rounds.machine import Looked, Progress, UpdateArrived, step
from fed_compute.rounds.records import Round, RoundState, Task, TaskState, Update
from fed_compute.storage.blobs import BlobStore, Bytes
from fed_compute.storage.sql.journal import Line, task_line
from fed_compute.storage.sql.store import Records, Store

Answer = Accepted | FedComputeError
"""What became of one delivery; an error is what the single way would have raised."""


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """The update of a task as it arrived, Unix seconds. Who sent it is known: authentication is the caller's."""

    client_id: ClientId
    task_id: TaskId
    body: Bytes
    received_at: float


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """A delivery as far as it is judged: `error` is why not, else `contents` are checked and lie under `digest`."""

    delivery: Delivery
    admission: Admission | FedComputeError
    contents: Contents | None = None
    digest: Digest | None = None
    error: UpdateRefused | None = None


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
        admitted = self._validator.admit_all([(one.client_id, one.task_id) for one in deliveries])
        items = [self._look_inside(*pair) for pair in zip(deliveries, admitted, strict=True)]
        answers: list[Answer] = []
        while len(answers) < len(items):
            with self._store.batch() as records:
                answers += _Batch(records, self._blobs, self._rounds, items[len(answers) :]).commit()
        return answers

    def _look_inside(self, delivery: Delivery, admission: Admission | FedComputeError) -> _Item:
        if isinstance(admission, FedComputeError) or admission.task.state is TaskState.REPORTED:
            return _Item(delivery, admission)
        wire, body = spec_of(admission.job).wire, delivery.body
        try:
            decoded = self._validator.decode(admission, body)
            norm = self._validator.check_values(admission, decoded.delta)
        except UpdateRefused as refusal:
            return _Item(delivery, admission, error=refusal)
        contents = Contents(wire.encoding, wire.compression, decoded.num_samples, norm, decoded.loss, decoded.delta)
        return _Item(delivery, admission, contents, self._blobs.put(body, self._blobs.fingerprint(body)))


class _Batch:
    """One transaction: judges items, in order, until their round moves on or another round counts one."""

    def __init__(self, records: Records, blobs: BlobStore, rounds: RoundManager, items: Sequence[_Item]) -> None:
        self._records = records
        self._blobs = blobs
        self._rounds = rounds
        self._items = items
        self._tasks = records.bulk.tasks([item.delivery.task_id for item in items])
        self._counting: dict[RoundId, Round] = {}
        self._stand: _Stand | None = None
        self._new: dict[TaskId, Callable[[UpdateId], Update]] = {}
        self._late: list[Task] = []
        self._lines: list[Line | TaskId] = []  # a task's id stands for the line of its new update
        self._answers: list[Answer | TaskId] = []

    def commit(self) -> list[Answer]:
        """Judge a first run of the items, at least one, write what came of it, and return their answers."""
        for item in self._items:
            if not self._judge(item):
                break
        updates = self._insert()
        self._records.bulk.end_tasks(self._late)
        self._records.journal.append_all([self._written(one, updates) for one in self._lines])
        if self._stand is not None and updates:
            self._follow(self._stand)
        return [one if not isinstance(one, str) else Accepted(updates[one], repeated=False) for one in self._answers]

    def _insert(self) -> dict[TaskId, Update]:
        """Write the new updates, in the order in which they were taken in, and return them by task."""
        numbers = self._records.bulk.next_update_ids(len(self._new))
        updates = [new(number) for new, number in zip(self._new.values(), numbers, strict=True)]
        self._records.bulk.add_updates(updates)
        return dict(zip(self._new, updates, strict=True))

    def _follow(self, stand: "_Stand") -> None:
        round_ = stand.round
        if round_.state is RoundState.OPEN:
            round_ = self._rounds.apply(self._records, round_, UpdateArrived())
        self._rounds.apply(self._records, round_, Looked(), counted=stand.progress)

    def _judge(self, item: _Item) -> bool:
        """Find the answer to one item, if that can be done in this transaction; say whether to go on with the next."""
        task = self._tasks.get(item.delivery.task_id)
        if task is None or isinstance(item.admission, FedComputeError):
            self._turn_away(item, task)
            return True
        stand = self._stand_of(task)
        norm = None if item.contents is None else item.contents.l2_norm
        is_alike = norm is not None and _has_neighbour(stand.norms, norm)
        if stand is not self._stand or task.task_id in self._new or (is_alike and self._new):
            return False  # judged once those before it are on record
        try:
            answer = self._check(item, task, stand, is_alike=is_alike)
        except (UpdateRefused, UpdateConflict, BufferBusy, *TOO_LATE) as refusal:
            self._turn_away(replace(item, admission=refusal), task)
            return True
        if answer is not None:
            self._answers.append(answer)
            return True
        return self._take(item, task, stand)

    def _check(self, item: _Item, task: Task, stand: "_Stand", *, is_alike: bool) -> Accepted | None:
        """Return None if an update is sound and new, or the one that it repeats.

        Raises:
            Refused, NotNow: what the single way would raise, in the same order.
        """
        if task.state is TaskState.REPORTED:
            first, digest = self._records.updates.of_task(task.task_id), self._blobs.fingerprint(item.delivery.body)
            if first is not None and first.digest != digest:
                digest = sha256_hex(item.delivery.body)  # the name of one that came alone
            return same_or_refuse(first, task, digest)
        require_open(task, stand.round)
        if item.error is not None:
            raise item.error
        if is_alike and item.contents is not None and isinstance(item.admission, Admission):
            contents, round_id = item.contents, stand.round.round_id
            refuse_copy(
                self._records, self._blobs, item.admission, contents.delta, norm=contents.l2_norm, round_id=round_id
            )
        if task.client_id in stand.reported:
            raise UpdateConflict(task_id=task.task_id)
        return None

    def _take(self, item: _Item, task: Task, stand: "_Stand") -> bool:
        """Take a sound update in; say whether the round goes on as it is."""
        contents, delivery = item.contents, item.delivery
        if contents is None or item.digest is None:
            raise InvariantBroken(f"task {task.task_id} was reported and is open again")
        self._new[task.task_id] = partial(
            contents.of_task,
            task,
            round_id=stand.round.round_id,
            digest=item.digest,
            size_bytes=len(delivery.body),
            received_at=delivery.received_at,
        )
        self._lines.append(task.task_id)
        self._answers.append(task.task_id)
        return not stand.may_move(task, norm=contents.l2_norm, now=delivery.received_at)

    def _turn_away(self, item: _Item, task: Task | None) -> None:
        """Answer with the refusal that stands in the item's place of an admission, and note it where that is due."""
        refusal, at = item.admission, item.delivery.received_at
        if not isinstance(refusal, FedComputeError):
            raise InvariantBroken(f"task {item.delivery.task_id} is gone")
        self._answers.append(refusal)
        if task is not None and isinstance(refusal, TOO_LATE) and task.state not in SETTLED:
            self._tasks[task.task_id] = late = as_late(task, now=at)
            self._late.append(late)
            self._lines.append(task_line("update_late", task, at=at, latency_seconds=max(0.0, at - task.leased_at)))
        elif task is not None and isinstance(refusal, UpdateRefused):
            self._lines.append(task_line("update_refused", task, at=at, code=refusal.code))

    def _stand_of(self, task: Task) -> "_Stand":
        """Return how the round that counts a task's update stands; the first one asked for is this transaction's."""
        if task.round_id not in self._counting:
            self._counting[task.round_id] = counting_round(self._records, task)
        round_ = self._counting[task.round_id]
        if self._stand is None:
            self._stand = _Stand.of(self._records, round_)
        return self._stand if self._stand.round.round_id == round_.round_id else _Stand(round_, set(), [], 0, 0)

    def _written(self, one: Line | TaskId, updates: Mapping[TaskId, Update]) -> Line:
        if not isinstance(one, str):
            return one
        base_version = 0 if self._stand is None else self._stand.round.base_version
        return accepted_line(updates[one], self._tasks[one], base_version=base_version)


@dataclass(slots=True)
class _Stand:
    """How a round stands within a batch: who has reported, the norms in order, and how much it has and awaits."""

    round: Round
    reported: set[ClientId]
    norms: list[float]
    num_updates: int
    num_leased: int

    @classmethod
    def of(cls, records: Records, round_: Round) -> Self:
        """Read how a round stands."""
        reports, num_leased = records.bulk.reports(round_.round_id), records.leases.count_of_round(round_.round_id)
        return cls(round_, set(reports), sorted(reports.values()), len(reports), num_leased)

    @property
    def progress(self) -> Progress:
        """What it has and who is at work. Who is awaited beside the leases is left to the look at the round."""
        return Progress(self.num_updates, self.num_leased, num_awaited=0)

    def may_move(self, task: Task, *, norm: float, now: float) -> bool:
        """Count the update of a task, of this norm; say whether the round must be looked at."""
        self.reported.add(task.client_id)
        insort(self.norms, norm)
        self.num_updates += 1
        self.num_leased -= task.round_id == self.round.round_id
        return (
            self.round.state is RoundState.OPEN or step(self.round, Looked(), self.progress, now=now) is not self.round
        )


def _has_neighbour(norms: Sequence[float], norm: float) -> bool:
    """Say whether one of the norms, ascending, is so near that its update may be the same."""
    place = bisect_left(norms, norm * (1 - SAME_NORM))
    return place < len(norms) and norms[place] <= norm * (1 + SAME_NORM)
