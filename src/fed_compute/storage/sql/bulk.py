"""Many rows in one statement, for callers that take in a batch at a time."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import fields
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select, text

from fed_compute.ids import ClientId, RoundId, TaskId, UpdateId
from fed_compute.rounds.records import Client, ClientState, Task, Update
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.batches import among_keys, insert_all, keys, row_maker, update_all
from fed_compute.storage.sql.memory import View
from fed_compute.storage.sql.rows import columns, record
from fed_compute.storage.sql.tasks import report_all

_C, _T, _U, _S = tables.clients.c, tables.tasks.c, tables.updates.c, tables.standings.c
_STATES = select(_C.client_id, _C.state).where(among_keys(_C.client_id))
_BUSY = select(_T.task_id).where(_T.client_id == _C.client_id, tables.IS_LIVE)
_REPORTED = select(_U.update_id).where(_U.round_id == bindparam("round_id"), _U.client_id == _C.client_id)
_IDLE = select(_C.client_id).where(among_keys(_C.client_id), _C.state == ClientState.ACTIVE, ~_BUSY.exists())
_FREE = (
    select(_C.client_id, _C.rounds_per_day, _S.standing)
    .select_from(tables.clients.outerjoin(tables.standings, _S.client_id == _C.client_id))
    .where(among_keys(_C.client_id), _C.state == ClientState.ACTIVE, ~_BUSY.exists(), ~_REPORTED.exists())
)
_TASKS = select(*columns(tables.tasks, Task)).where(among_keys(_T.task_id))
_REPORTS = select(_U.client_id, _U.l2_norm).where(_U.round_id == bindparam("round_id"))
_LAST_ID = text("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'updates'")
_NEXT_IDS = text("SELECT nextval(pg_get_serial_sequence('updates', 'update_id')) FROM generate_series(1, :count)")

_CLIENT, _TASK, _UPDATE = ([field.name for field in fields(kind)] for kind in (Client, Task, Update))
_client_row, _task_row = row_maker(tables.clients, _CLIENT), row_maker(tables.tasks, _TASK)
_update_row, _end_row = row_maker(tables.updates, _UPDATE), row_maker(tables.tasks, ("state", "ended_at", "task_id"))


class Free(NamedTuple):
    """A client without work, and what may keep it from more: an invitation's quota, its standing as JSON text."""

    client_id: ClientId
    rounds_per_day: int | None
    standing: str | None


class BulkRows:
    """Reads and writes for many clients at once: one statement for all of them, none for what memory knows."""

    def __init__(self, connection: Connection, view: View) -> None:
        self._connection = connection
        self._view = view

    def states(self, client_ids: Collection[ClientId]) -> dict[ClientId, ClientState]:
        """Return the states of those of these clients that are registered."""
        holders = self._view.recall(lambda memory: memory.holders.intersection(client_ids))
        known = dict.fromkeys(holders or (), ClientState.ACTIVE)
        if unknown := [client_id for client_id in client_ids if client_id not in known]:
            known |= {key: value for key, value in self._connection.execute(_STATES, keys(unknown)).all()}
        return known

    def idle(self, client_ids: Iterable[ClientId]) -> set[ClientId]:
        """Return those of these clients that are active and hold no live lease."""
        return set(self._connection.execute(_IDLE, keys(client_ids)).scalars())

    def free(self, client_ids: Iterable[ClientId], round_id: RoundId) -> dict[ClientId, Free]:
        """Return those of these clients that are active, hold no live lease and have no update in a round."""
        rows = self._connection.execute(_FREE, {"round_id": round_id, **keys(client_ids)}).all()
        return {row[0]: Free(*row) for row in rows}

    def tasks(self, task_ids: Collection[TaskId]) -> dict[TaskId, Task]:
        """Return those of these tasks that there are. Progress and deadlines may be older than their states."""
        known = self._view.recall(lambda memory: _among(memory.leases, task_ids)) or {}
        if unknown := [task_id for task_id in task_ids if task_id not in known]:
            found = [record(Task, row) for row in self._connection.execute(_TASKS, keys(unknown)).all()]
            known |= {task.task_id: task for task in found}
            self._view.learn(lambda memory: memory.learn_leases(found))
        return known

    def reports(self, round_id: RoundId) -> dict[ClientId, float]:
        """Return who has an update in a round, and its L2 norm."""
        known = self._view.recall(lambda memory: copy(memory.about(round_id).reports))
        if known is None:
            rows = self._connection.execute(_REPORTS, {"round_id": round_id})
            found = known = {key: value for key, value in rows.all()}
            self._view.learn(lambda memory: memory.know(round_id, reports=found))
        return known

    def add_clients(self, clients: Sequence[Client]) -> None:
        """Insert clients. One name too many ends the transaction with `RecordConflict`."""
        insert_all(self._connection, tables.clients, _CLIENT, [_client_row(one) for one in clients])

    def add_tasks(self, tasks: Sequence[Task]) -> None:
        """Insert leases of active clients. A second live one of a client ends the transaction with `RecordConflict`."""
        insert_all(self._connection, tables.tasks, _TASK, [_task_row(one) for one in tasks])
        self._view.note(lambda memory: memory.give(tasks))

    def end_tasks(self, tasks: Sequence[Task]) -> None:
        """Write the state and the end of tasks; whatever else is on record of them stays."""
        rows = [_end_row(one) for one in tasks]
        update_all(self._connection, tables.tasks, ("state", "ended_at"), "task_id", rows)
        self._view.note(lambda memory: memory.end(one.task_id for one in tasks))

    def next_update_ids(self, count: int) -> list[UpdateId]:
        """Return the next places in the sequence of updates, for `add_updates` of this transaction."""
        if self._connection.dialect.name != "sqlite":
            return list(self._connection.execute(_NEXT_IDS, {"count": count}).scalars())
        last = self._connection.execute(_LAST_ID).scalar_one()
        return [UpdateId(number) for number in range(last + 1, last + 1 + count)]

    def add_updates(self, updates: Sequence[Update]) -> None:
        """Insert updates at the places that `next_update_ids` gave them, and mark their tasks as reported."""
        insert_all(self._connection, tables.updates, _UPDATE, [_update_row(one) for one in updates])
        report_all(self._connection, ((one.task_id, one.received_at) for one in updates))
        self._view.note(lambda memory: memory.take_in(updates))
        self._view.note(lambda memory: memory.end(one.task_id for one in updates))


def _among(leases: Mapping[TaskId, Task], task_ids: Iterable[TaskId]) -> dict[TaskId, Task]:
    return {task_id: leases[task_id] for task_id in task_ids if task_id in leases}
