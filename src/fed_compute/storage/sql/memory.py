"""What a process need not ask its database again: the leases to train and the updates that its last batches wrote.

Memory is true for whoever sees the journal end where the last batch left it: no lease to train or update comes, goes or
changes its state without an entry, nor is a client shut out without one. One entry by anybody else, and all is
forgotten: another process's, or this one's outside of a batch.
"""

import threading
from collections.abc import Callable, Iterable
from functools import cached_property

from fed_compute.ids import ClientId, RoundId, TaskId
from fed_compute.rounds.records import Task, TaskKind, TaskState, Update

MOST_ROUNDS = 8
"""Rounds whose updates are remembered at once, those that began last; some 600 bytes for each update."""


class Memory:
    """What one process remembers, as of one entry of the journal. Hold its lock while you use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.as_of = -1
        self.leases: dict[TaskId, Task] = {}
        self.holders: set[ClientId] = set()  # of leases that were given to active clients
        self.updates: dict[RoundId, list[Update]] = {}

    def move_to(self, as_of: int) -> None:
        """Forget everything, and begin anew as of an entry."""
        self.as_of, self.leases, self.holders, self.updates = as_of, {}, set(), {}

    def add(self, update: Update) -> None:
        """Remember a new update."""
        if update.round_id not in self.updates and len(self.updates) == MOST_ROUNDS:
            del self.updates[min(self.updates)]
        self.updates.setdefault(update.round_id, []).append(update)


class View:
    """What one transaction takes from memory, as of the journal's end that it sees, and what it leaves there."""

    def __init__(self, memory: Memory, last_seq: Callable[[], int]) -> None:
        self._memory = memory
        self._last_seq = last_seq
        self._leases: list[Task] = []
        self._ended: list[TaskId] = []
        self._updates: list[Update] = []
        self._late: set[RoundId] = set()

    @cached_property
    def _as_of(self) -> int:
        return self._last_seq()

    def begin(self) -> None:
        """Look where the journal ends, before this transaction writes into it. One that only reads need not."""
        _ = self._as_of

    @property
    def _is_true(self) -> bool:
        """Whether memory, whose lock is held, is as of the moment that this transaction sees."""
        has_written = self._leases or self._ended or self._updates or self._late
        return not has_written and self._as_of == self._memory.as_of

    def leases(self, task_ids: Iterable[TaskId]) -> dict[TaskId, Task]:
        """Return those of these leases that are known to be live. A heartbeat may have made one longer since."""
        with self._memory.lock:
            if not self._is_true:
                return {}
            known = self._memory.leases
            return {task_id: known[task_id] for task_id in task_ids if task_id in known}

    def holders(self, client_ids: Iterable[ClientId]) -> set[ClientId]:
        """Return those of these clients that are known to be active, because they hold a lease of a batch."""
        with self._memory.lock:
            return self._memory.holders.intersection(client_ids) if self._is_true else set()

    def updates(self, round_id: RoundId) -> list[Update]:
        """Return the known updates of a round, in sequence. There may be others."""
        with self._memory.lock:
            return list(self._memory.updates.get(round_id, ())) if self._is_true else []

    def learn(self, tasks: Iterable[Task]) -> None:
        """Remember the live ones of leases that were read in this transaction."""
        with self._memory.lock:
            if self._as_of > self._memory.as_of:
                self._memory.move_to(self._as_of)
            if self._is_true:
                live = (task for task in tasks if task.state is TaskState.LEASED and task.kind is TaskKind.TRAIN)
                self._memory.leases |= {task.task_id: task for task in live}

    def note_leases(self, tasks: Iterable[Task]) -> None:
        """Note leases that this transaction gives to active clients."""
        self._leases += tasks

    def note_ends(self, task_ids: Iterable[TaskId]) -> None:
        """Note leases that this transaction ends."""
        self._ended += task_ids

    def note_updates(self, updates: Iterable[Update]) -> None:
        """Note updates that this transaction adds."""
        self._updates += updates

    def note_late(self, round_id: RoundId) -> None:
        """Note that this transaction lists the updates of a round as late."""
        self._late.add(round_id)

    def keep(self, *, as_of: int) -> None:
        """Remember what this transaction wrote, which is committed and left the journal ending at `as_of`."""
        with self._memory.lock:
            if self._as_of != self._memory.as_of:
                self._memory.move_to(as_of)
            self._memory.as_of = as_of
            self._memory.leases |= {task.task_id: task for task in self._leases}
            self._memory.holders |= {task.client_id for task in self._leases}
            for task_id in self._ended:
                if (ended := self._memory.leases.pop(task_id, None)) is not None:
                    self._memory.holders.discard(ended.client_id)
            for update in self._updates:
                self._memory.add(update)
            for round_id in self._late:
                self._memory.updates.pop(round_id, None)
