"""Rows of tasks, which are the leases."""

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, func, insert, or_, select, update

from fed_compute.ids import ClientId, JobId, RoundId, TaskId
from fed_compute.rounds.records import RoundMode, Task, TaskKind, TaskState
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.batches import update_all
from fed_compute.storage.sql.rows import columns, record, required, values

_TASK = columns(tables.tasks, Task)
_T, _R = tables.tasks.c, tables.rounds.c
# Statements are built once: building one costs several times as much as running it.
_INSERT = insert(tables.tasks)
_PUT = update(tables.tasks).where(_T.task_id == bindparam("key"))
_BY_ID = select(*_TASK).where(_T.task_id == bindparam("task_id"))
_LIVE = select(*_TASK).where(_T.client_id == bindparam("client_id"), tables.IS_LIVE)
_OF_CLIENT = (
    select(*_TASK)
    .where(_T.client_id == bindparam("client_id"), _T.round_id == bindparam("round_id"), _T.kind == bindparam("kind"))
    .order_by(_T.leased_at.desc())
)
_OF_ROUND = (
    select(*_TASK)
    .where(_T.round_id == bindparam("round_id"), _T.kind == bindparam("kind"))
    .order_by(_T.leased_at, _T.task_id)
)
_COUNT = (
    select(_T.state, func.count())
    .where(_T.round_id == bindparam("round_id"), _T.kind == bindparam("kind"))
    .group_by(_T.state)
)
_OVERDUE = (
    select(*_TASK)
    .join(tables.rounds, _R.round_id == _T.round_id)
    .where(
        tables.IS_LIVE,
        _T.deadline < bindparam("now"),
        or_(_T.heartbeats, _T.kind != TaskKind.TRAIN, _R.left_seconds.is_(None), _R.mode == RoundMode.FEDBUFF),
    )
    .order_by(_T.deadline)
    .limit(bindparam("limit"))
)
_EVALUATED_BY = select(func.count()).where(
    _T.client_id == bindparam("client_id"),
    _T.job_id == bindparam("job_id"),
    _T.kind == TaskKind.EVALUATE,
    _T.base_version == bindparam("version"),
)


class TaskRows:
    """Leases. A client holds at most one live lease; the database enforces it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, task: Task) -> None:
        """Insert a task. A second live lease of one client ends the transaction with `RecordConflict`."""
        self._connection.execute(_INSERT, values(task))

    def get(self, task_id: TaskId) -> Task:
        """Return a task that other rows refer to."""
        return required(Task, self._connection.execute(_BY_ID, {"task_id": task_id}).one_or_none(), task_id)

    def find(self, task_id: TaskId) -> Task | None:
        """Return the task of this id, if there is one."""
        row = self._connection.execute(_BY_ID, {"task_id": task_id}).one_or_none()
        return None if row is None else record(Task, row)

    def put(self, task: Task) -> None:
        """Overwrite a task."""
        self._connection.execute(_PUT, {"key": task.task_id, **values(task)})

    def live_of(self, client_id: ClientId) -> Task | None:
        """Return the live lease of a client."""
        row = self._connection.execute(_LIVE, {"client_id": client_id}).one_or_none()
        return None if row is None else record(Task, row)

    def of_client_in_round(self, client_id: ClientId, round_id: RoundId, kind: TaskKind) -> list[Task]:
        """Return the tasks of one client in one round, newest first."""
        rows = self._connection.execute(_OF_CLIENT, {"client_id": client_id, "round_id": round_id, "kind": kind})
        return [record(Task, row) for row in rows]

    def of_round(self, round_id: RoundId, kind: TaskKind) -> list[Task]:
        """Return the tasks of one round, oldest first."""
        rows = self._connection.execute(_OF_ROUND, {"round_id": round_id, "kind": kind})
        return [record(Task, row) for row in rows]

    def count(self, round_id: RoundId, kind: TaskKind) -> dict[TaskState, int]:
        """Return how many tasks of a round are in each state."""
        rows = self._connection.execute(_COUNT, {"round_id": round_id, "kind": kind})
        return {state: count for state, count in rows}

    def overdue(self, now: float, *, limit: int) -> list[Task]:
        """Return live leases that ran out before `now`.

        One without heartbeats that lasts as long as its round cannot run out while the round is paused.
        """
        rows = self._connection.execute(_OVERDUE, {"now": now, "limit": limit})
        return [record(Task, row) for row in rows]

    def evaluated_by(self, client_id: ClientId, job_id: JobId, version: int) -> bool:
        """Say whether a client has or had an evaluation task for a version."""
        values_ = {"client_id": client_id, "job_id": job_id, "version": version}
        return bool(self._connection.execute(_EVALUATED_BY, values_).scalar_one())


def report_all(connection: Connection, reported: Iterable[tuple[TaskId, float]]) -> None:
    """Mark leases as reported, each at its own moment, Unix seconds; none is fine."""
    rows = [(TaskState.REPORTED.value, 1.0, at, task_id) for task_id, at in reported]
    update_all(connection, tables.tasks, ("state", "progress", "ended_at"), "task_id", rows)
