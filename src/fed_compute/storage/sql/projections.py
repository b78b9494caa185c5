"""Rows that journal readers keep: one JSON text per key, rebuilt from the journal at any time."""

import json
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update

from fed_compute.storage.sql import tables


class Projection:
    """A table of one key and one JSON text."""

    def __init__(self, connection: Connection, table: Table, key: str, text: str) -> None:
        self._connection, self._table = connection, table
        self._key, self._text = table.c[key], table.c[text]

    def get(self, key: str | int) -> Any | None:
        """Return what is kept under a key."""
        text = self._connection.execute(select(self._text).where(self._key == key)).scalar()
        return None if text is None else json.loads(text)

    def all(self) -> dict[Any, Any]:
        """Return everything, by key."""
        rows = self._connection.execute(select(self._key, self._text).order_by(self._key))
        return {key: json.loads(text) for key, text in rows}

    def put(self, key: str | int, data: Any, **columns: Any) -> None:
        """Write what is kept under a key; `columns` fill the table's further columns."""
        row = {self._text.name: json.dumps(data, separators=(",", ":")), **columns}
        changed = self._connection.execute(update(self._table).where(self._key == key).values(**row))
        if changed.rowcount == 0:
            self._connection.execute(insert(self._table).values({self._key.name: key, **row}))

    def clear(self) -> None:
        """Forget everything, before a rebuild."""
        self._connection.execute(delete(self._table))


def standings(connection: Connection) -> Projection:
    """Return what is known of each client, by client id."""
    return Projection(connection, tables.standings, "client_id", "standing")


def round_metrics(connection: Connection) -> Projection:
    """Return the metrics of each round, by round id."""
    return Projection(connection, tables.round_metrics, "round_id", "metrics")


def earnings(connection: Connection) -> Projection:
    """Return what the incentives need to remember of each client, by client id."""
    return Projection(connection, tables.earnings, "client_id", "earning")
