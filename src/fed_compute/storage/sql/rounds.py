"""Rows of rounds."""

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection, bindparam, func, insert, or_, select, update

from fed_compute.ids import JobId, RoundId
from fed_compute.rounds.records import LIVE_ROUND_STATES, Round, RoundState
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.memory import View
from fed_compute.storage.sql.rows import columns, inserted_id, record, required, values

_ROUND = columns(tables.rounds, Round)
_R = tables.rounds.c
_PUT = update(tables.rounds).where(_R.round_id == bindparam("key"))
_BY_ID = select(*_ROUND).where(_R.round_id == bindparam("round_id"))
_BY_ID_LOCKED = _BY_ID.with_for_update()
_LIVE = select(*_ROUND).where(_R.job_id == bindparam("job_id"), _R.state.in_(LIVE_ROUND_STATES))
_IN_STATES = select(*_ROUND).where(_R.state.in_(bindparam("states", expanding=True))).order_by(_R.round_id)
_OF_JOB = select(*_ROUND).where(_R.job_id == bindparam("job_id")).order_by(_R.round_id)
_RECENT = (
    select(_R.round_id)
    .where(_R.job_id == bindparam("job_id"), _R.state.in_((RoundState.CLOSED, RoundState.ABANDONED)))
    .where(_R.round_id < bindparam("before"))
    .order_by(_R.round_id.desc())
    .limit(bindparam("limit"))
)
_COUNT_CLOSED = select(func.count()).where(_R.job_id == bindparam("job_id"), _R.state == RoundState.CLOSED)
_CLAIM = (
    update(tables.rounds)
    .where(_R.round_id == bindparam("key"))
    .where(or_(_R.worker.is_(None), _R.worker == bindparam("who"), _R.worker_until < bindparam("now")))
    .values(worker=bindparam("who"), worker_until=bindparam("until"))
)
_INSERT = insert(tables.rounds)

NO_ROUND = RoundId(2**53)
"""A number that no round reaches."""


class RoundRows:
    """Rounds. At most one round of a job is live; the database enforces it."""

    def __init__(self, connection: Connection, view: View) -> None:
        self._connection = connection
        self._view = view

    def add(self, round_: Round) -> Round:
        """Insert a round; its `round_id` is given by the database and returned."""
        row = {name: value for name, value in values(round_).items() if name != "round_id"}
        result = self._connection.execute(_INSERT, row)
        added = replace(round_, round_id=RoundId(inserted_id(result)))
        self._view.note(lambda memory: memory.open(added))
        return added

    def find(self, round_id: RoundId) -> Round | None:
        """Return the round of this id, if there is one."""
        row = self._connection.execute(_BY_ID, {"round_id": round_id}).one_or_none()
        return None if row is None else record(Round, row)

    def get(self, round_id: RoundId, *, for_update: bool = False) -> Round:
        """Return a round that other rows refer to; `for_update` locks it until the transaction ends."""
        if known := self._view.recall(lambda memory: memory.about(round_id).record):
            return known  # also for update: a batch is the only writer
        query = _BY_ID_LOCKED if for_update else _BY_ID
        row = self._connection.execute(query, {"round_id": round_id}).one_or_none()
        found = required(Round, row, round_id)
        self._view.learn(lambda memory: memory.know(round_id, record=found))
        return found

    def put(self, round_: Round) -> None:
        """Overwrite a round."""
        self._connection.execute(_PUT, {"key": round_.round_id, **values(round_)})
        self._view.note(lambda memory: memory.know(round_.round_id, record=round_))

    def live(self, job_id: JobId) -> Round | None:
        """Return the live round of a job."""
        row = self._connection.execute(_LIVE, {"job_id": job_id}).one_or_none()
        return None if row is None else record(Round, row)

    def in_states(self, states: Iterable[RoundState]) -> list[Round]:
        """Return the rounds in some states, oldest first."""
        return [record(Round, row) for row in self._connection.execute(_IN_STATES, {"states": list(states)})]

    def of_job(self, job_id: JobId) -> list[Round]:
        """Return the rounds of one job, oldest first."""
        return [record(Round, row) for row in self._connection.execute(_OF_JOB, {"job_id": job_id})]

    def recent_closed_ids(self, job_id: JobId, *, limit: int, before: RoundId | None = None) -> list[RoundId]:
        """Return the ids of the last ended rounds of a job, newest first; with `before`, only of those before it."""
        given = {"job_id": job_id, "limit": limit, "before": NO_ROUND if before is None else before}
        return [RoundId(value) for value in self._connection.execute(_RECENT, given).scalars()]

    def count_closed(self, job_id: JobId) -> int:
        """Return how many rounds of a job were closed with a result."""
        return self._connection.execute(_COUNT_CLOSED, {"job_id": job_id}).scalar_one()

    def claim(self, round_id: RoundId, *, worker: str, now: float, until: float) -> bool:
        """Lease the folding of a round to one worker; say whether it got the lease.

        A worker that holds the lease renews it; another gets it only after it ran out.
        """
        given = {"key": round_id, "who": worker, "now": now, "until": until}
        return self._connection.execute(_CLAIM, given).rowcount == 1
