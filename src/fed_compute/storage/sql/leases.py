"""The live leases among the tasks, whatever round they began in."""

from sqlalchemy import Connection, bindparam, func, select

from fed_compute.ids import JobId
from fed_compute.rounds.records import Task, TaskKind
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rows import columns, record

_T = tables.tasks.c
_TRAINING = (_T.job_id == bindparam("job_id"), _T.kind == TaskKind.TRAIN, tables.IS_LIVE)
_LIVE = select(*columns(tables.tasks, Task)).where(*_TRAINING).order_by(_T.leased_at, _T.task_id)
_COUNT = select(func.count()).where(*_TRAINING)
_COUNT_ALL = select(func.count()).where(*_TRAINING[1:])


class LeaseRows:
    """Live leases to train."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_job(self, job_id: JobId) -> list[Task]:
        """Return a job's live leases, oldest first."""
        return [record(Task, row) for row in self._connection.execute(_LIVE, {"job_id": job_id})]

    def count(self, job_id: JobId) -> int:
        """Return how many live leases a job has."""
        return self._connection.execute(_COUNT, {"job_id": job_id}).scalar_one()

    def count_all(self) -> int:
        """Return how many live leases there are."""
        return self._connection.execute(_COUNT_ALL).scalar_one()
