"""Rows of tasks, which are the leases."""

from sqlalchemy import Connection, func, insert, select, update

from fed_compute.ids import ClientId, JobId, RoundId, TaskId
from fed_compute.rounds.records import Task, TaskKind, TaskState
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rows import columns, record, required, values

_TASK = columns(tables.tasks, Task)


class TaskRows:
    """Leases. A client holds at most one live lease; the database enforces it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, task: Task) -> None:
        """Insert a task. A second live lease of one client raises the database's IntegrityError."""
        self._connection.execute(insert(tables.tasks).values(**values(task)))

    def get(self, task_id: TaskId) -> Task:
        """Return a task that other rows refer to."""
        row = self._connection.execute(select(*_TASK).where(tables.tasks.c.task_id == task_id)).one_or_none()
        return required(Task, row, task_id)

    def find(self, task_id: TaskId) -> Task | None:
        """Return the task of this id, if there is one."""
        row = self._connection.execute(select(*_TASK).where(tables.tasks.c.task_id == task_id)).one_or_none()
        return None if row is None else record(Task, row)

    def put(self, task: Task) -> None:
        """Overwrite a task."""
        query = update(tables.tasks).where(tables.tasks.c.task_id == task.task_id)
        self._connection.execute(query.values(**values(task)))

    def live_of(self, client_id: ClientId) -> Task | None:
        """Return the live lease of a client."""
        query = select(*_TASK).where(tables.tasks.c.client_id == client_id, tables.tasks.c.state == TaskState.LEASED)
        row = self._connection.execute(query).one_or_none()
        return None if row is None else record(Task, row)

    def of_client_in_round(self, client_id: ClientId, round_id: RoundId, kind: TaskKind) -> list[Task]:
        """Return the tasks of one client in one round, newest first."""
        query = (
            select(*_TASK)
            .where(
                tables.tasks.c.client_id == client_id,
                tables.tasks.c.round_id == round_id,
                tables.tasks.c.kind == kind,
            )
            .order_by(tables.tasks.c.leased_at.desc())
        )
        return [record(Task, row) for row in self._connection.execute(query)]

    def of_round(self, round_id: RoundId, kind: TaskKind, *, state: TaskState | None = None) -> list[Task]:
        """Return the tasks of one round, all or those in one state, oldest first."""
        query = select(*_TASK).where(tables.tasks.c.round_id == round_id, tables.tasks.c.kind == kind)
        if state is not None:
            query = query.where(tables.tasks.c.state == state)
        query = query.order_by(tables.tasks.c.leased_at, tables.tasks.c.task_id)
        return [record(Task, row) for row in self._connection.execute(query)]

    def count(self, round_id: RoundId, kind: TaskKind) -> dict[TaskState, int]:
        """Return how many tasks of a round are in each state."""
        query = (
            select(tables.tasks.c.state, func.count())
            .where(tables.tasks.c.round_id == round_id, tables.tasks.c.kind == kind)
            .group_by(tables.tasks.c.state)
        )
        return {state: count for state, count in self._connection.execute(query)}

    def overdue(self, now: float, *, limit: int) -> list[Task]:
        """Return live leases that ran out before `now`."""
        query = (
            select(*_TASK)
            .where(tables.tasks.c.state == TaskState.LEASED, tables.tasks.c.deadline < now)
            .order_by(tables.tasks.c.deadline)
            .limit(limit)
        )
        return [record(Task, row) for row in self._connection.execute(query)]

    def evaluated_by(self, client_id: ClientId, job_id: JobId, version: int) -> bool:
        """Say whether a client has or had an evaluation task for a version."""
        query = (
            select(func.count())
            .select_from(tables.tasks)
            .where(
                tables.tasks.c.client_id == client_id,
                tables.tasks.c.job_id == job_id,
                tables.tasks.c.kind == TaskKind.EVALUATE,
                tables.tasks.c.base_version == version,
            )
        )
        return self._connection.execute(query).scalar_one() > 0

    def count_evaluations(self, job_id: JobId, round_id: RoundId) -> int:
        """Return how many evaluation leases of a round's result are live or reported."""
        query = (
            select(func.count())
            .select_from(tables.tasks)
            .where(
                tables.tasks.c.job_id == job_id,
                tables.tasks.c.round_id == round_id,
                tables.tasks.c.kind == TaskKind.EVALUATE,
                tables.tasks.c.state.in_((TaskState.LEASED, TaskState.REPORTED)),
            )
        )
        return self._connection.execute(query).scalar_one()
