"""Rows of evaluations: what clients measured on their own data."""

from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from fed_compute.ids import JobId
from fed_compute.rounds.records import Evaluation
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rows import columns, record, values
from fed_compute.storage.sql.tasks import report_all

_EVALUATION = columns(tables.evaluations, Evaluation)
_E = tables.evaluations.c
_INSERT = insert(tables.evaluations)


class EvaluationRows:
    """Evaluations, one per task."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add_all(self, evaluations: Sequence[Evaluation]) -> None:
        """Insert evaluations, and mark their tasks as reported; none is fine.

        A second one of a task ends the transaction with `RecordConflict`.
        """
        if evaluations:
            self._connection.execute(_INSERT, [values(one) for one in evaluations])
            report_all(self._connection, ((one.task_id, one.recorded_at) for one in evaluations))

    def of_job(self, job_id: JobId) -> list[Evaluation]:
        """Return the evaluations of a job's versions, oldest first."""
        query = select(*_EVALUATION).where(_E.job_id == job_id).order_by(_E.version, _E.client_id)
        return [record(Evaluation, row) for row in self._connection.execute(query)]
