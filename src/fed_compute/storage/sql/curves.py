"""How the rounds of a job went, one line for each: added up by the database, so that a long job is quick to show."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, cast, func, select

from fed_compute.ids import JobId
from fed_compute.rounds.records import RoundState
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rounds import NO_ROUND

_R, _U, _E = tables.rounds.c, tables.updates.c, tables.evaluations.c


def _mean(value: ColumnElement[float | None], weight: ColumnElement[int]) -> ColumnElement[float | None]:
    """Return the mean of what is there, weighted."""
    return func.sum(value * weight) / func.nullif(func.sum(weight).filter(value.is_not(None)), 0)


_ROUNDS = (
    select(_R.round_id, _R.number, _R.state, _R.result_version, _R.opened_at, _R.started_at, _R.closed_at)
    .where(_R.job_id == bindparam("job_id"), _R.round_id < bindparam("before"))
    .order_by(_R.round_id.desc())
    .limit(bindparam("limit"))
    .subquery()
)
_UPDATES = (
    select(
        _U.round_id,
        func.count().label("num_updates"),
        cast(func.sum(_U.num_samples), BigInteger).label("num_samples"),  # PostgreSQL sums to NUMERIC
        _mean(_U.loss, _U.num_samples).label("train_loss"),
    )
    .where(_U.round_id.in_(select(_ROUNDS.c.round_id)))
    .group_by(_U.round_id)
    .subquery()
)
_QUALITIES = (
    select(
        _E.round_id,
        func.count().label("num_evaluations"),
        _mean(_E.loss, _E.num_samples).label("loss"),
        _mean(_E.accuracy, _E.num_samples).label("accuracy"),
    )
    .where(_E.round_id.in_(select(_ROUNDS.c.round_id)))
    .group_by(_E.round_id)
    .subquery()
)
_POINTS = (
    select(
        *_ROUNDS.c,
        func.coalesce(_UPDATES.c.num_updates, 0).label("num_updates"),
        func.coalesce(_UPDATES.c.num_samples, 0).label("num_samples"),
        _UPDATES.c.train_loss,
        func.coalesce(_QUALITIES.c.num_evaluations, 0).label("num_evaluations"),
        _QUALITIES.c.loss,
        _QUALITIES.c.accuracy,
    )
    .select_from(
        _ROUNDS.outerjoin(_UPDATES, _UPDATES.c.round_id == _ROUNDS.c.round_id).outerjoin(
            _QUALITIES, _QUALITIES.c.round_id == _ROUNDS.c.round_id
        )
    )
    .order_by(_ROUNDS.c.round_id)
)


@dataclass(frozen=True, slots=True)
class RoundPoint:
    """One round in short. Losses and accuracy are means weighted by samples; times are Unix seconds."""

    round_id: int
    number: int
    state: RoundState
    result_version: int | None
    opened_at: float
    started_at: float | None
    closed_at: float | None
    num_updates: int
    num_samples: int
    train_loss: float | None
    num_evaluations: int
    loss: float | None
    accuracy: float | None


class CurveRows:
    """The course of a job."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_job(self, job_id: JobId, *, limit: int, before: int = NO_ROUND) -> list[RoundPoint]:
        """Return the last `limit` rounds of a job that are before the round `before`, oldest first."""
        rows = self._connection.execute(_POINTS, {"job_id": job_id, "limit": limit, "before": before})
        return [RoundPoint(**row._mapping) for row in rows]

    def count_received_since(self, moment: float, *, among: int) -> int:
        """Return how many of the newest `among` updates were received at or after a moment."""
        newest = select(_U.received_at).order_by(_U.update_id.desc()).limit(among).subquery()
        query = select(func.count()).where(newest.c.received_at >= moment)
        return self._connection.execute(query).scalar_one()
