"""Rows of accepted updates."""

from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, bindparam, func, insert, select, update

from fed_compute.errors import UpdateConflict
from fed_compute.ids import ClientId, JobId, RoundId, TaskId, UpdateId
from fed_compute.rounds.records import RoundState, TaskKind, TaskState, Update, UpdateState
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.batches import GIVEN, keys
from fed_compute.storage.sql.failures import unique_or
from fed_compute.storage.sql.memory import View
from fed_compute.storage.sql.rounds import NO_ROUND
from fed_compute.storage.sql.rows import columns, inserted_id, record, required, values

_UPDATE = columns(tables.updates, Update)
_U = tables.updates.c
_INSERT = insert(tables.updates)
_OF_TASK = select(*_UPDATE).where(_U.task_id == bindparam("task_id"))
_BY_ID = select(*_UPDATE).where(_U.update_id == bindparam("update_id"))
_OF_ROUND = (
    select(*_UPDATE)
    .where(_U.round_id == bindparam("round_id"), _U.update_id > bindparam("after"))
    .order_by(_U.update_id)
)
_NORMS = (
    select(_U.l2_norm)
    .where(_U.round_id == bindparam("round_id"))
    .order_by(_U.update_id.desc())
    .limit(bindparam("limit"))
)
_OF_NORM = (
    select(*_UPDATE)
    .where(_U.round_id == bindparam("round_id"), _U.l2_norm.between(bindparam("lowest"), bindparam("highest")))
    .order_by(_U.update_id)
)
_COUNT = select(func.count()).where(_U.round_id == bindparam("round_id"))
_COUNT_OF_CLIENT = _COUNT.where(_U.client_id == bindparam("client_id"))

_T, _R = tables.tasks.c, tables.rounds.c
# Found by the client's tasks, of which there is an index. The round that counts an update may be a later one.
_CLOSED = select(_R.round_id).where(
    _R.round_id == _U.round_id, _R.job_id == bindparam("job_id"), _R.state == RoundState.CLOSED
)
_COUNTED_OF_CLIENT = (
    select(_U.update_id)
    .select_from(tables.tasks.join(tables.updates, _U.task_id == _T.task_id))
    .where(_T.client_id == GIVEN.c.value, _T.round_id < bindparam("before"))
    .where(_T.kind == TaskKind.TRAIN, _T.state == TaskState.REPORTED, _CLOSED.exists())
    .limit(bindparam("limit"))
    .correlate(GIVEN)
    .subquery()
)
_COUNTED = select(GIVEN.c.value, select(func.count()).select_from(_COUNTED_OF_CLIENT).scalar_subquery())


class UpdateRows:
    """Accepted updates, one per task and one per client and round; the database enforces both."""

    def __init__(self, connection: Connection, view: View) -> None:
        self._connection = connection
        self._view = view

    def add(self, update_: Update) -> UpdateId:
        """Insert an update and return its place in the sequence.

        Raises:
            UpdateConflict: if the task, or its client in this round, has an update.
        """
        row = {name: value for name, value in values(update_).items() if name != "update_id"}
        with unique_or(UpdateConflict(task_id=update_.task_id)):
            result = self._connection.execute(_INSERT, row)
        return UpdateId(inserted_id(result))

    def of_task(self, task_id: TaskId) -> Update | None:
        """Return the accepted update of a task."""
        row = self._connection.execute(_OF_TASK, {"task_id": task_id}).one_or_none()
        return None if row is None else record(Update, row)

    def get(self, update_id: UpdateId) -> Update:
        """Return an update that other rows refer to."""
        row = self._connection.execute(_BY_ID, {"update_id": update_id}).one_or_none()
        return required(Update, row, update_id)

    def of_round(self, round_id: RoundId, *, after: int = 0) -> list[Update]:
        """Return the updates of a round in sequence, those after update id `after`."""
        known = self._view.recall(lambda memory: list(memory.about(round_id).updates))
        if known and len(known) == self.count(round_id):
            return [one for one in known if one.update_id > after]
        rows = self._connection.execute(_OF_ROUND, {"round_id": round_id, "after": after}).all()
        return [record(Update, row) for row in rows]

    def norms_of(self, round_id: RoundId, *, limit: int) -> list[float]:
        """Return the L2 norms of a round's updates, newest first, at most `limit`."""
        return list(self._connection.execute(_NORMS, {"round_id": round_id, "limit": limit}).scalars().all())

    def of_norm(self, round_id: RoundId, *, lowest: float, highest: float) -> list[Update]:
        """Return the updates of a round whose L2 norm lies between two bounds, in sequence."""
        rows = self._connection.execute(_OF_NORM, {"round_id": round_id, "lowest": lowest, "highest": highest})
        return [record(Update, row) for row in rows]

    def count(self, round_id: RoundId, *, client_id: ClientId | None = None) -> int:
        """Return how many updates a round has, of all clients or of one."""
        if client_id is not None:
            given = {"round_id": round_id, "client_id": client_id}
            return self._connection.execute(_COUNT_OF_CLIENT, given).scalar_one()
        known = self._view.recall(lambda memory: memory.about(round_id).num_updates)
        return self._connection.execute(_COUNT, {"round_id": round_id}).scalar_one() if known is None else known

    def counted(
        self, job_id: JobId, clients: Iterable[ClientId], *, limit: int, before: RoundId = NO_ROUND
    ) -> dict[ClientId, int]:
        """Return how many updates of each client the job has counted in closed rounds, at most `limit` of each.

        Only leases that began in a round before `before` are looked at: those of it and later ones are not closed yet.
        """
        given = {"job_id": job_id, "limit": limit, "before": before, **keys(clients)}
        return {client_id: count for client_id, count in self._connection.execute(_COUNTED, given).all()}

    def list_as_late(self, round_id: RoundId) -> int:
        """Mark every update of an abandoned round as late; return how many."""
        self._view.note(lambda memory: memory.list_as_late(round_id))
        query = update(tables.updates).where(tables.updates.c.round_id == round_id)
        return self._connection.execute(query.values(state=UpdateState.LATE)).rowcount

    def all(self) -> Iterator[Update]:
        """Return every update in sequence."""
        query = select(*_UPDATE).order_by(tables.updates.c.update_id)
        return (record(Update, row) for row in self._connection.execute(query))
