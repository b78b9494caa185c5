"""Rows of API keys."""

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, insert, select, update

from fed_compute.ids import ClientId
from fed_compute.rounds.records import ApiKey, ClientState, Scope
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rows import columns, older, record, values

_K = tables.api_keys.c
_KEY = columns(tables.api_keys, ApiKey)
_NEWEST_FIRST = (_K.created_at.desc(), _K.key_id.desc())
_BY_ID = select(*_KEY).where(_K.key_id == bindparam("key_id"))
# Asked once for each request: one statement for the key and the standing of its client.
_WITH_STATE = (
    select(*_KEY, tables.clients.c.state)
    .select_from(tables.api_keys.outerjoin(tables.clients, _K.client_id == tables.clients.c.client_id))
    .where(_K.key_id == bindparam("key_id"))
)
_OF_CLIENT = select(*_KEY).where(_K.client_id == bindparam("client_id")).order_by(*_NEWEST_FIRST)
_OF_SCOPE = select(*_KEY).where(_K.scope == bindparam("scope")).order_by(*_NEWEST_FIRST)
_MARK_USED = update(tables.api_keys).where(_K.key_id == bindparam("key"))
_PUT = update(tables.api_keys).where(_K.key_id == bindparam("key"))


class KeyRows:
    """Keys of clients, observers and operators; of each only an HMAC."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, key: ApiKey) -> None:
        """Insert a key."""
        self._connection.execute(insert(tables.api_keys).values(**values(key)))

    def find(self, key_id: str) -> ApiKey | None:
        """Return the key of this public id, if there is one."""
        row = self._connection.execute(_BY_ID, {"key_id": key_id}).one_or_none()
        return None if row is None else record(ApiKey, row)

    def with_state(self, key_id: str) -> tuple[ApiKey, ClientState | None] | None:
        """Return a key and the standing of the client it speaks for, None for a key without a client."""
        row = self._connection.execute(_WITH_STATE, {"key_id": key_id}).one_or_none()
        return None if row is None else (ApiKey(*row[:-1]), row[-1])

    def put(self, key: ApiKey) -> None:
        """Overwrite a key."""
        self._connection.execute(_PUT, {"key": key.key_id, **values(key)})

    def of_client(self, client_id: ClientId) -> list[ApiKey]:
        """Return every key of a client, newest first."""
        return [record(ApiKey, row) for row in self._connection.execute(_OF_CLIENT, {"client_id": client_id})]

    def of_scope(self, scope: Scope) -> list[ApiKey]:
        """Return every key of one scope, newest first."""
        return [record(ApiKey, row) for row in self._connection.execute(_OF_SCOPE, {"scope": scope})]

    def page(
        self, *, limit: int, after: str | None = None, scope: Scope | None = None, client_id: ClientId | None = None
    ) -> list[ApiKey]:
        """Return at most `limit` keys, newest first, those after the key `after`, of one scope or client."""
        query = select(*_KEY).order_by(*_NEWEST_FIRST).limit(limit)
        if after is not None:
            if (last := self.find(after)) is None:
                return []
            query = query.where(older(_K.created_at, _K.key_id, (last.created_at, last.key_id)))
        if scope is not None:
            query = query.where(_K.scope == scope)
        if client_id is not None:
            query = query.where(_K.client_id == client_id)
        return [record(ApiKey, row) for row in self._connection.execute(query)]

    def mark_used(self, used: Mapping[str, float]) -> None:
        """Record when keys were last used."""
        self._connection.execute(_MARK_USED, [{"key": key_id, "last_used_at": at} for key_id, at in used.items()])
