"""The live leases among the tasks, whatever round they began in."""

from sqlalchemy import Connection, bindparam, func, select

from fed_compute.ids import JobId, RoundId
from fed_compute.rounds.records import Task, TaskKind
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.memory import View
from fed_compute.storage.sql.rows import columns, record

_T = tables.tasks.c
_TRAINING = (_T.job_id == bindparam("job_id"), _T.kind == TaskKind.TRAIN, tables.IS_LIVE)
_LIVE = select(*columns(tables.tasks, Task)).where(*_TRAINING).order_by(_T.leased_at, _T.task_id)
_COUNT = select(func.count()).where(*_TRAINING)
_COUNT_OF_ROUND = select(func.count()).where(_T.round_id == bindparam("round_id"), *_TRAINING[1:])
_COUNT_ALL = select(func.count()).where(*_TRAINING[1:])


class LeaseRows:
    """Live leases to train."""

    def __init__(self, connection: Connection, view: View) -> None:
        self._connection = connection
        self._view = view

    def of_job(self, job_id: JobId) -> list[Task]:
        """Return a job's live leases, oldest first."""
        return [record(Task, row) for row in self._connection.execute(_LIVE, {"job_id": job_id})]

    def count(self, job_id: JobId) -> int:
        """Return how many live leases a job has."""
        return self._connection.execute(_COUNT, {"job_id": job_id}).scalar_one()

    def count_of_round(self, round_id: RoundId) -> int:
        """Return how many live leases began in a round."""
        known = self._view.recall(lambda memory: memory.about(round_id).num_leased)
        if known is None:
            found = known = self._connection.execute(_COUNT_OF_ROUND, {"round_id": round_id}).scalar_one()
            self._view.learn(lambda memory: memory.know(round_id, num_leased=found))
        return known

    def count_all(self) -> int:
        """Return how many live leases there are."""
        return self._connection.execute(_COUNT_ALL).scalar_one()
