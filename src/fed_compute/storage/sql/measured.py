"""What tasks and rounds took, and who was there: measured on the rows of others, never written."""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, bindparam, func, select

from fed_compute.ids import ClientId, JobId, RoundId
from fed_compute.rounds.leases import OWN_TASKS
from fed_compute.rounds.records import ClientState, RoundState, TaskKind, TaskState
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.batches import GIVEN, keys
from fed_compute.storage.sql.memory import View, Worker

_T, _R = tables.tasks.c, tables.rounds.c
_ENDED = (RoundState.CLOSED, RoundState.ABANDONED)
_REPORTED = (_T.kind == TaskKind.TRAIN, _T.state == TaskState.REPORTED)
_OF_ROUND = (
    select(_T.ended_at - _T.leased_at)
    .join(tables.updates, _T.task_id == tables.updates.c.task_id)
    .where(tables.updates.c.round_id == bindparam("round_id"), *_REPORTED)
    .order_by(tables.updates.c.update_id.desc())
    .limit(bindparam("limit"))
)
_OF_CLIENT = (
    select(_T.ended_at - _T.leased_at)
    .where(_T.client_id == bindparam("client_id"), _T.job_id == bindparam("job_id"), *_REPORTED)
    .order_by(_T.round_id.desc())
    .limit(bindparam("limit"))
)
_LATER = tables.tasks.alias("later")
_L = _LATER.c
_OLDEST = (  # the round of the oldest lease that is looked at, where a client has so many
    select(_L.round_id)
    .where(_L.client_id == GIVEN.c.value, _L.job_id == bindparam("job_id"))
    .where(_L.kind == TaskKind.TRAIN, _L.state == TaskState.REPORTED)
    .order_by(_L.round_id.desc())
    .offset(bindparam("newer"))
    .limit(1)
    .scalar_subquery()
)
_OF_CLIENTS = (
    select(_T.client_id, _T.ended_at - _T.leased_at)
    .where(_T.client_id == GIVEN.c.value, _T.job_id == bindparam("job_id"), *_REPORTED)
    .where(_T.round_id >= func.coalesce(_OLDEST, 0))
    .order_by(_T.client_id, _T.round_id.desc())
)
_ROUNDS = (
    select(_R.closed_at - _R.opened_at)
    .where(_R.job_id == bindparam("job_id"), _R.state.in_(_ENDED))
    .order_by(_R.round_id.desc())
    .limit(bindparam("num_rounds"))
)
_OVERTIME = select(func.count()).where(
    _T.job_id == bindparam("job_id"),
    _T.kind == TaskKind.TRAIN,
    tables.IS_LIVE,
    _T.soft_deadline < bindparam("now"),
)
_LEASES = (
    select(_T.job_id, _T.kind, func.count(), func.count().filter(_T.deadline < bindparam("now")))
    .where(tables.IS_LIVE)
    .group_by(_T.job_id, _T.kind)
)
_CLIENTS = select(tables.clients.c.state, func.count()).group_by(tables.clients.c.state)
_NEWEST = select(_R.round_id).order_by(_R.round_id.desc()).limit(1)
_LAST_SIGN = select(func.max(tables.clients.c.last_seen_at))


class MeasuredRows:
    """Durations in seconds, and counts. A clock that was set back may make a duration negative."""

    def __init__(self, connection: Connection, view: View) -> None:
        self._connection = connection
        self._view = view

    def seconds_of_round(self, round_id: RoundId, *, limit: int) -> list[float]:
        """Return how long the updates that a round counted took, from lease to arrival, newest first."""
        return list(self._connection.execute(_OF_ROUND, {"round_id": round_id, "limit": limit}).scalars().all())

    def training_seconds_of(self, client_id: ClientId, job_id: JobId, *, limit: int) -> list[float]:
        """Return how long one client's last reported leases of a job took, newest first."""
        rows = self._connection.execute(_OF_CLIENT, {"client_id": client_id, "job_id": job_id, "limit": limit})
        return list(rows.scalars())

    def training_seconds_of_each(
        self, client_ids: Iterable[ClientId], job_id: JobId, *, limit: int
    ) -> dict[ClientId, list[float]]:
        """Return the same of many clients, for those that have reported any. Memory knows as many as are looked at."""
        of_job = [(job_id, client_id) for client_id in client_ids]
        known = self._view.recall(lambda memory: _among(memory.took, of_job)) if limit == OWN_TASKS else None
        took = dict(known or {})
        if unknown := [key for key in of_job if key not in took]:
            found: dict[Worker, list[float]] = {key: [] for key in unknown}
            given = {"job_id": job_id, "newer": limit - 1, **keys(client_id for _, client_id in unknown)}
            for client_id, seconds in self._connection.execute(_OF_CLIENTS, given).all():
                found[job_id, client_id].append(seconds)
            took |= found
            if limit == OWN_TASKS:
                self._view.learn(lambda memory: memory.learn_times(found))
        return {client_id: list(seconds) for (_, client_id), seconds in took.items() if seconds}

    def round_seconds(self, job_id: JobId, *, num_rounds: int) -> list[float]:
        """Return how long a job's last rounds took from their opening to their end, newest first."""
        return list(self._connection.execute(_ROUNDS, {"job_id": job_id, "num_rounds": num_rounds}).scalars())

    def count_overtime(self, job_id: JobId, *, now: float) -> int:
        """Return how many live leases to train are past their soft deadline."""
        return self._connection.execute(_OVERTIME, {"job_id": job_id, "now": now}).scalar_one()

    def count_leases(self, *, now: float) -> dict[tuple[JobId, TaskKind], tuple[int, int]]:
        """Return by job and kind how many leases nobody has ended, and how many of them are past their deadline."""
        rows = self._connection.execute(_LEASES, {"now": now})
        return {(JobId(job_id), kind): (live, overdue) for job_id, kind, live, overdue in rows}

    def count_clients(self) -> dict[ClientState, int]:
        """Return how many clients there are of each state that any has."""
        return {state: count for state, count in self._connection.execute(_CLIENTS)}

    def newest_round(self) -> RoundId:
        """Return the newest round in which a task was handed out; before the first task, the newest round."""
        started = self._connection.execute(_NEWEST.where(_R.started_at.is_not(None))).scalar()
        return RoundId(started or self._connection.execute(_NEWEST).scalar_one())

    def last_sign_of_life(self) -> float | None:
        """Return when any client was last heard of."""
        moment: float | None = self._connection.execute(_LAST_SIGN).scalar_one()
        return moment


def _among(took: Mapping[Worker, list[float]], workers: Iterable[Worker]) -> dict[Worker, list[float]]:
    return {worker: took[worker][:] for worker in workers if worker in took}
