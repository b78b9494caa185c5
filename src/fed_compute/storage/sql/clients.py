"""Rows of clients."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, Select, bindparam, func, insert, select, update

from fed_compute.errors import ClientNameTaken
from fed_compute.ids import ClientId, RoundId
from fed_compute.rounds.records import Client, ClientState, TaskKind, TaskState
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.batches import update_all
from fed_compute.storage.sql.failures import unique_or
from fed_compute.storage.sql.rows import columns, record, values

_C = tables.clients.c
_CLIENT = columns(tables.clients, Client)
_BY_ID = select(*_CLIENT).where(_C.client_id == bindparam("client_id"))
# Whoever may not work is nobody to wait for.
_COUNT_SEEN = select(func.count()).where(_C.last_seen_at >= bindparam("moment"), _C.state == ClientState.ACTIVE)
_REPORTED = select(tables.updates.c.update_id).where(
    tables.updates.c.round_id == bindparam("round_id"), tables.updates.c.client_id == _C.client_id
)
_COUNT_AWAITED = _COUNT_SEEN.where(~_REPORTED.exists())
_PUT = update(tables.clients).where(_C.client_id == bindparam("key"))
_TASK = tables.tasks.c
# A lease that was given back or taken back was no round of the client's.
_TRAINED_SINCE = select(func.count(), func.min(_TASK.leased_at)).where(
    _TASK.client_id == bindparam("client_id"),
    _TASK.kind == TaskKind.TRAIN,
    _TASK.leased_at > bindparam("since"),
    _TASK.state.not_in([TaskState.RELEASED, TaskState.CANCELLED]),
)


class ClientRows:
    """Registered machines."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, client: Client) -> None:
        """Insert a client.

        Raises:
            ClientNameTaken: if another client has the name.
        """
        with unique_or(ClientNameTaken(client.client_id)):
            self._connection.execute(insert(tables.clients).values(**values(client)))

    def find(self, client_id: ClientId) -> Client | None:
        """Return the client of this id, if there is one."""
        row = self._connection.execute(_BY_ID, {"client_id": client_id}).one_or_none()
        return None if row is None else record(Client, row)

    def put(self, client: Client) -> None:
        """Overwrite a client."""
        self._connection.execute(_PUT, {"key": client.client_id, **values(client)})

    def all(self) -> list[Client]:
        """Return every client, by id."""
        rows = self._connection.execute(select(*_CLIENT).order_by(_C.client_id))
        return [record(Client, row) for row in rows]

    def page(
        self,
        *,
        limit: int,
        after: ClientId | None = None,
        state: ClientState | None = None,
        invite_id: str | None = None,
        inviter: ClientId | None = None,
    ) -> list[Client]:
        """Return at most `limit` clients by id, those after the client `after`, of one state, invitation or inviter."""
        query = select(*_CLIENT).order_by(_C.client_id).limit(limit)
        if after is not None:
            query = query.where(_C.client_id > after)
        if state is not None:
            query = query.where(_C.state == state)
        if invite_id is not None:
            query = query.where(_C.invite_id == invite_id)
        if inviter is not None:
            query = query.where(_C.invite_id.in_(_invites_of([inviter])))
        return [record(Client, row) for row in self._connection.execute(query)]

    def invited_by(self, inviters: Collection[ClientId]) -> list[Client]:
        """Return the clients that came with an invitation of one of these clients, by id."""
        query = select(*_CLIENT).where(_C.invite_id.in_(_invites_of(inviters))).order_by(_C.client_id)
        return [record(Client, row) for row in self._connection.execute(query)]

    def trained_since(self, client_id: ClientId, since: float) -> tuple[int, float | None]:
        """Return how many training tasks a client took after `since`, and when it took the first of them."""
        row = self._connection.execute(_TRAINED_SINCE, {"client_id": client_id, "since": since}).one()
        return row[0], row[1]

    def count(self, *, seen_since: float | None = None) -> int:
        """Return how many clients are registered, or how many that may take part were seen at or after a moment."""
        if seen_since is None:
            return self._connection.execute(select(func.count()).select_from(tables.clients)).scalar_one()
        return self._connection.execute(_COUNT_SEEN, {"moment": seen_since}).scalar_one()

    def count_awaited(self, round_id: RoundId, *, seen_since: float) -> int:
        """Return how many clients that may take part were seen since a moment and have no update in a round."""
        return self._connection.execute(_COUNT_AWAITED, {"round_id": round_id, "moment": seen_since}).scalar_one()

    def mark_seen(self, seen: Mapping[ClientId, float]) -> None:
        """Record when clients were last heard of."""
        rows = [(moment, client_id) for client_id, moment in seen.items()]
        update_all(self._connection, tables.clients, ("last_seen_at",), "client_id", rows)


def _invites_of(inviters: Collection[ClientId]) -> Select[str]:
    return select(tables.invites.c.invite_id).where(tables.invites.c.inviter.in_(list(inviters)))
