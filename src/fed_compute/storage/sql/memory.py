"""What a process need not ask its database again: what its last batches wrote, and what it has read since.

Memory is true for whoever sees the journal end where the last batch left it: no lease to train, update, round or job
comes, goes or changes without an entry, nor is a client shut out without one. (A heartbeat leaves none; it changes
nothing but a lease's progress and deadline.) One entry by anybody else, and all is forgotten: another process's, or
this one's outside of a batch.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fed_compute.ids import ClientId, JobId, RoundId, TaskId
from fed_compute.rounds.leases import OWN_TASKS
from fed_compute.rounds.records import Job, Round, Task, TaskKind, TaskState, Update

_FactT = TypeVar("_FactT")

MOST_ROUNDS = 8
"""Rounds of which anything is remembered at once, those that began last; some 600 bytes for each update."""

MOST_TIMES = 10_000
"""Clients whose times are remembered at once, at most 1 kB each."""
Worker = tuple[JobId, ClientId]
"""A client at work on a job."""


@dataclass(slots=True)
class KnownRound:
    """What is known of one round, None for what is not. It may have more updates than `updates`.

    `reports` are the L2 norms of all of them by client, `num_leased` is how many live leases to train began in it.
    """

    record: Round | None = None
    reports: dict[ClientId, float] | None = None
    num_leased: int | None = None
    updates: list[Update] = field(default_factory=list)

    @property
    def num_updates(self) -> int | None:
        """How many updates it has in all."""
        return None if self.reports is None else len(self.reports)


class Memory:
    """What one process remembers, as of one entry of the journal. Hold its lock while you use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_in_use = False  # from the first batch of leases on: where nobody works in batches, nothing is gained
        self.forget(as_of=-1)

    def forget(self, *, as_of: int) -> None:
        """Forget everything, and begin anew as of an entry."""
        self.as_of = as_of
        self.jobs: dict[JobId, Job] = {}
        self.leases: dict[TaskId, Task] = {}  # live ones, to train
        self.holders: set[ClientId] = set()  # of leases that were given to active clients
        self.took: dict[Worker, list[float]] = {}  # seconds of its last `OWN_TASKS` reported leases, newest first
        self._rounds: dict[RoundId, KnownRound] = {}

    def about(self, round_id: RoundId) -> KnownRound:
        """Return what is known of a round."""
        return self._rounds.get(round_id) or KnownRound()

    def know(
        self,
        round_id: RoundId,
        *,
        record: Round | None = None,
        reports: Mapping[ClientId, float] | None = None,
        num_leased: int | None = None,
    ) -> None:
        """Remember of a round what is given."""
        known = self._round(round_id)
        known.record = known.record if record is None else record
        known.reports = known.reports if reports is None else dict(reports)
        known.num_leased = known.num_leased if num_leased is None else num_leased

    def open(self, record: Round) -> None:
        """Remember a round that is new, so that nothing has come in it yet."""
        self.know(record.round_id, record=record, reports={}, num_leased=0)

    def learn_leases(self, leases: Iterable[Task]) -> None:
        """Remember the live ones to train among tasks that are on record."""
        live = (task for task in leases if task.state is TaskState.LEASED and task.kind is TaskKind.TRAIN)
        self.leases |= {task.task_id: task for task in live}

    def learn_times(self, took: Mapping[Worker, Sequence[float]]) -> None:
        """Remember how long the last leases of clients took."""
        for worker, seconds in took.items():
            self.took[worker] = list(seconds)
            if len(self.took) > MOST_TIMES:
                del self.took[next(iter(self.took))]  # the one that was asked for first

    def give(self, leases: Iterable[Task]) -> None:
        """Remember new leases of active clients."""
        self.is_in_use = True
        for task in leases:
            if task.kind is TaskKind.TRAIN:
                self.leases[task.task_id] = task
                self.holders.add(task.client_id)
                self._count_lease(task, 1)

    def end(self, task_ids: Iterable[TaskId]) -> None:
        """Remember that these tasks are no live leases any more, if they were."""
        for task_id in task_ids:
            if (ended := self.leases.pop(task_id, None)) is not None:
                self.holders.discard(ended.client_id)
                self._count_lease(ended, -1)
            else:
                for known in self._rounds.values():
                    known.num_leased = None  # perhaps it was one of theirs

    def take_in(self, updates: Iterable[Update]) -> None:
        """Remember new updates, whose leases are not ended yet."""
        for update in updates:
            self._note_time(update)
            known = self._round(update.round_id)
            known.updates.append(update)
            if known.reports is not None:
                known.reports[update.client_id] = update.l2_norm

    def list_as_late(self, round_id: RoundId) -> None:
        """Remember that the updates of a round are late now."""
        self._round(round_id).updates = []

    def _round(self, round_id: RoundId) -> KnownRound:
        """Return what is known of a round, to be added to. Nothing is kept of rounds that began long ago."""
        known = self.about(round_id)
        if round_id not in self._rounds:
            self._rounds[round_id] = known
            if len(self._rounds) > MOST_ROUNDS:
                del self._rounds[min(self._rounds)]
        return known

    def _note_time(self, update: Update) -> None:
        worker, lease = (update.job_id, update.client_id), self.leases.get(update.task_id)
        if lease is None:
            self.took.pop(worker, None)
        elif worker in self.took:
            self.took[worker] = [update.received_at - lease.leased_at, *self.took[worker]][:OWN_TASKS]

    def _count_lease(self, task: Task, change: int) -> None:
        known = self.about(task.round_id)
        if known.num_leased is not None:
            known.num_leased += change


class View:
    """What one transaction takes from memory, as of the journal's end that it sees, and what it leaves there.

    Without a memory it is a transaction that changes records by other ways than those that memory hears of.
    """

    def __init__(self, memory: Memory | None, last_seq: Callable[[], int]) -> None:
        self._memory = memory
        self._last_seq = last_seq
        self._seen: int | None = None
        self._changes: list[Callable[[Memory], object]] = []

    def begin(self) -> None:
        """Look where the journal ends, before this transaction writes into it. One that only reads need not."""
        _ = self._as_of

    def recall(self, read: Callable[[Memory], _FactT]) -> _FactT | None:
        """Return what memory tells, None if it is not as of what this transaction sees or has changed itself."""
        if self._memory is None or not self._memory.is_in_use:
            return None
        with self._memory.lock:
            return read(self._memory) if self._is_true(self._memory) else None

    def learn(self, write: Callable[[Memory], object]) -> None:
        """Add to memory what was read in this transaction."""
        if self._memory is None or not self._memory.is_in_use:
            return
        with self._memory.lock:
            if self._as_of > self._memory.as_of:
                self._memory.forget(as_of=self._as_of)
            if self._is_true(self._memory):
                write(self._memory)

    def note(self, change: Callable[[Memory], object]) -> None:
        """Let memory change as this transaction changes the records, once it is committed."""
        self._changes.append(change)

    def keep(self, *, num_entries: int) -> None:
        """Remember what this transaction wrote, which is committed, and appended so many entries to the journal.

        Where the database leaves out a number, the journal ends later than is thought here: then all is forgotten.
        """
        if self._memory is None:
            return
        as_of = self._as_of + num_entries
        with self._memory.lock:
            if self._as_of != self._memory.as_of:
                self._memory.forget(as_of=as_of)
            self._memory.as_of = as_of
            for change in self._changes:
                change(self._memory)

    @property
    def _as_of(self) -> int:
        if self._seen is None:
            self._seen = self._last_seq()
        return self._seen

    def _is_true(self, memory: Memory) -> bool:
        return not self._changes and self._as_of == memory.as_of
