"""Many rows in one statement, for callers that take in a batch at a time."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, bindparam, func, insert, select, update

from fed_compute.ids import ClientId, JobId, RoundId, TaskId, UpdateId
from fed_compute.rounds.records import Client, Task, TaskKind, TaskState, Update
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rows import columns, record, values

_AT_ONCE = 5_000
"""Values in one statement, well below the limit of every database."""

_C, _T, _U = tables.clients.c, tables.tasks.c, tables.updates.c
_CLIENTS = select(*columns(tables.clients, Client)).where(_C.client_id.in_(bindparam("keys", expanding=True)))
_TASKS = select(*columns(tables.tasks, Task)).where(_T.task_id.in_(bindparam("keys", expanding=True)))
_BUSY = select(_T.client_id).where(_T.client_id.in_(bindparam("keys", expanding=True)), _T.state == TaskState.LEASED)
_REPORTED = select(_U.client_id).where(
    _U.round_id == bindparam("round_id"), _U.client_id.in_(bindparam("keys", expanding=True))
)
_STANDINGS = select(tables.standings.c.client_id, tables.standings.c.standing).where(
    tables.standings.c.client_id.in_(bindparam("keys", expanding=True))
)
_TOOK = (
    select(_T.client_id, _T.ended_at - _T.leased_at)
    .where(_T.client_id.in_(bindparam("keys", expanding=True)), _T.job_id == bindparam("job_id"))
    .where(_T.kind == TaskKind.TRAIN, _T.state == TaskState.REPORTED)
    .order_by(_T.client_id, _T.round_id.desc())
)
_NORMS = select(_U.l2_norm).where(_U.round_id == bindparam("round_id")).order_by(_U.l2_norm)
_NEW_IDS = select(_U.update_id).where(_U.update_id > bindparam("last")).order_by(_U.update_id)
_LAST_ID = select(func.max(_U.update_id))
_REPORT = (
    update(tables.tasks)
    .where(_T.task_id == bindparam("key"))
    .values(state=TaskState.REPORTED, progress=1.0, ended_at=bindparam("at"))
)
_INSERT_CLIENT, _INSERT_TASK, _INSERT_UPDATE = insert(tables.clients), insert(tables.tasks), insert(tables.updates)

_ItemT = TypeVar("_ItemT")


class BulkRows:
    """Reads and writes for many clients at once: a statement for some thousands of rows, not one for each."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def clients(self, client_ids: Sequence[ClientId]) -> dict[ClientId, Client]:
        """Return those of these clients that are registered."""
        found = (record(Client, row) for row in self._rows(_CLIENTS, client_ids))
        return {client.client_id: client for client in found}

    def tasks(self, task_ids: Sequence[TaskId]) -> dict[TaskId, Task]:
        """Return those of these tasks that there are."""
        found = (record(Task, row) for row in self._rows(_TASKS, task_ids))
        return {task.task_id: task for task in found}

    def busy(self, client_ids: Sequence[ClientId]) -> set[ClientId]:
        """Return those of these clients that hold a live lease."""
        return {row[0] for row in self._rows(_BUSY, client_ids)}

    def reported(self, round_id: RoundId, client_ids: Sequence[ClientId]) -> set[ClientId]:
        """Return those of these clients that have an update in a round."""
        return {row[0] for row in self._rows(_REPORTED, client_ids, round_id=round_id)}

    def standings(self, client_ids: Sequence[ClientId]) -> dict[ClientId, str]:
        """Return what is kept of these clients' standing, as JSON text, where something is."""
        return {row[0]: row[1] for row in self._rows(_STANDINGS, client_ids)}

    def training_seconds(
        self, client_ids: Sequence[ClientId], job_id: JobId, *, limit: int
    ) -> dict[ClientId, list[float]]:
        """Return how long each client's last reported leases of a job took, newest first, at most `limit` of each."""
        took: dict[ClientId, list[float]] = defaultdict(list)
        for client_id, seconds in self._rows(_TOOK, client_ids, job_id=job_id):
            if len(took[client_id]) < limit:
                took[client_id].append(seconds)
        return took

    def norms(self, round_id: RoundId) -> list[float]:
        """Return the L2 norms of a round's updates, ascending."""
        return list(self._connection.execute(_NORMS, {"round_id": round_id}).scalars())

    def add_clients(self, clients: Sequence[Client]) -> None:
        """Insert clients. One name too many ends the transaction with `RecordConflict`."""
        if clients:
            self._connection.execute(_INSERT_CLIENT, [values(client) for client in clients])

    def add_tasks(self, tasks: Sequence[Task]) -> None:
        """Insert tasks. A second live lease of one client ends the transaction with `RecordConflict`."""
        if tasks:
            self._connection.execute(_INSERT_TASK, [values(task) for task in tasks])

    def add_updates(self, updates: Sequence[Update]) -> list[UpdateId]:
        """Insert updates, mark their tasks as reported, and return their places in the sequence."""
        if not updates:
            return []
        last = self._connection.execute(_LAST_ID).scalar() or 0
        rows = [values(one) for one in updates]
        for row in rows:
            del row["update_id"]
        self._connection.execute(_INSERT_UPDATE, rows)
        ended = [{"key": one.task_id, "at": one.received_at} for one in updates]
        self._connection.execute(_REPORT, ended)
        # one writer at a time: what is new is ours, in the order in which it was inserted
        return [UpdateId(value) for value in self._connection.execute(_NEW_IDS, {"last": last}).scalars()]

    def _rows(self, query: Select[Any], keys: Sequence[str], **given: Any) -> Iterator[Any]:
        for some in _chunks(keys):
            yield from self._connection.execute(query, {"keys": some, **given})


def _chunks(items: Sequence[_ItemT]) -> Iterator[list[_ItemT]]:
    rest = iter(items)
    while some := list(islice(rest, _AT_ONCE)):
        yield some
