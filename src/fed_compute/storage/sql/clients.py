"""Rows of clients and their keys."""

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, func, insert, select, update

from fed_compute.errors import ClientNameTaken
from fed_compute.ids import ClientId
from fed_compute.rounds.records import ApiKey, Client, Scope
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.failures import unique_or
from fed_compute.storage.sql.rows import columns, record, values

_CLIENT = columns(tables.clients, Client)
_KEY = columns(tables.api_keys, ApiKey)
_BY_ID = select(*_CLIENT).where(tables.clients.c.client_id == bindparam("client_id"))
_KEY_BY_ID = select(*_KEY).where(tables.api_keys.c.key_id == bindparam("key_id"))
_COUNT_SEEN = select(func.count()).where(tables.clients.c.last_seen_at >= bindparam("moment"))
_MARK_SEEN = update(tables.clients).where(tables.clients.c.client_id == bindparam("key"))


class ClientRows:
    """Registered machines and the keys that speak for them."""

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

    def all(self) -> list[Client]:
        """Return every client, by id."""
        rows = self._connection.execute(select(*_CLIENT).order_by(tables.clients.c.client_id))
        return [record(Client, row) for row in rows]

    def count_seen_since(self, moment: float) -> int:
        """Return how many clients were seen at or after `moment`."""
        return self._connection.execute(_COUNT_SEEN, {"moment": moment}).scalar_one()

    def mark_seen(self, seen: Mapping[ClientId, float]) -> None:
        """Record when clients were last heard of."""
        rows = [{"key": client_id, "last_seen_at": moment} for client_id, moment in seen.items()]
        self._connection.execute(_MARK_SEEN, rows)

    def add_key(self, key: ApiKey) -> None:
        """Insert a key."""
        self._connection.execute(insert(tables.api_keys).values(**values(key)))

    def key(self, key_id: str) -> ApiKey | None:
        """Return the key of this public id."""
        row = self._connection.execute(_KEY_BY_ID, {"key_id": key_id}).one_or_none()
        return None if row is None else record(ApiKey, row)

    def keys_of_scope(self, scope: Scope) -> list[ApiKey]:
        """Return the keys of one scope."""
        rows = self._connection.execute(select(*_KEY).where(tables.api_keys.c.scope == scope))
        return [record(ApiKey, row) for row in rows]

    def revoke_keys(self, scope: Scope, *, now: float) -> None:
        """Revoke every live key of one scope."""
        query = update(tables.api_keys).where(tables.api_keys.c.scope == scope, tables.api_keys.c.revoked_at.is_(None))
        self._connection.execute(query.values(revoked_at=now))
