"""Rows of evaluations: what clients measured on their own data."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, insert, select, update

from fed_compute.ids import JobId
from fed_compute.rounds.records import Evaluation, TaskState
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rows import columns, record, values

_EVALUATION = columns(tables.evaluations, Evaluation)
_E = tables.evaluations.c
_T = tables.tasks.c
_INSERT = insert(tables.evaluations)
_REPORT = (
    update(tables.tasks)
    .where(_T.task_id == bindparam("key"))
    .values(state=TaskState.REPORTED, progress=1.0, ended_at=bindparam("at"))
)


class EvaluationRows:
    """Evaluations, one per task."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, evaluation: Evaluation) -> None:
        """Insert an evaluation. A second one of a task ends the transaction with `RecordConflict`."""
        self._connection.execute(_INSERT, [values(evaluation)])

    def add_all(self, evaluations: Sequence[Evaluation]) -> None:
        """Insert evaluations, as `add` does, and mark their tasks as reported; none is fine."""
        if evaluations:
            self._connection.execute(_INSERT, [values(one) for one in evaluations])
            ended = [{"key": one.task_id, "at": one.recorded_at} for one in evaluations]
            self._connection.execute(_REPORT, ended)

    def of_job(self, job_id: JobId) -> list[Evaluation]:
        """Return the evaluations of a job's versions, oldest first."""
        query = select(*_EVALUATION).where(_E.job_id == job_id).order_by(_E.version, _E.client_id)
        return [record(Evaluation, row) for row in self._connection.execute(query)]
