"""What one client has sent: its accepted updates, found by its tasks, of which there is an index."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from fed_compute.ids import ClientId, JobId
from fed_compute.rounds.records import TaskKind, Update
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rows import columns, record

_T, _U = tables.tasks.c, tables.updates.c
_SENT_UPDATES = tables.tasks.join(tables.updates, _U.task_id == _T.task_id)
_OF_CLIENT = (_T.client_id == bindparam("client_id"), _T.kind == TaskKind.TRAIN)
_BY_JOB = (
    select(_U.job_id, func.count(), func.sum(_U.size_bytes), func.min(_U.received_at), func.max(_U.received_at))
    .select_from(_SENT_UPDATES)
    .where(*_OF_CLIENT)
    .group_by(_U.job_id)
    .order_by(_U.job_id)
)
_NEWEST = (
    select(*columns(tables.updates, Update))
    .select_from(_SENT_UPDATES)
    .where(*_OF_CLIENT)
    .order_by(_T.round_id.desc(), _U.update_id.desc())
    .limit(bindparam("limit"))
)


@dataclass(frozen=True, slots=True)
class Sent:
    """What one client sent for one job: how many updates were accepted, their bytes, from when to when."""

    job_id: JobId
    num_updates: int
    num_bytes: int
    first_at: float
    last_at: float


class SentRows:
    """What left a client's machine for good, as the coordinator has it on record."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def by_job(self, client_id: ClientId) -> list[Sent]:
        """Return what a client sent, one line for each job."""
        rows = self._connection.execute(_BY_JOB, {"client_id": client_id})
        return [Sent(job_id, count, int(size), first, last) for job_id, count, size, first, last in rows]

    def newest(self, client_id: ClientId, *, limit: int) -> list[Update]:
        """Return a client's updates, those of its newest leases first, at most `limit`."""
        rows = self._connection.execute(_NEWEST, {"client_id": client_id, "limit": limit})
        return [record(Update, row) for row in rows]
