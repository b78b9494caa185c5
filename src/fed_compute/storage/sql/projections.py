"""Rows that journal readers keep: one JSON text per key, rebuilt from the journal at any time."""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from fed_compute.storage.sql import tables

_MOST_PARAMETERS = 1_000


class Projection:
    """A table of one key and one JSON text."""

    def __init__(self, connection: Connection, table: Table, key: str, text: str) -> None:
        self._connection, self._table = connection, table
        self._key, self._text = table.c[key], table.c[text]

    def get(self, key: str | int) -> Any | None:
        """Return what is kept under a key."""
        text = self._connection.execute(select(self._text).where(self._key == key)).scalar()
        return None if text is None else json.loads(text)

    def some(self, keys: Collection[str | int]) -> dict[Any, Any]:
        """Return what is kept under some keys, by key: one statement for each thousand of them."""
        found, wanted = dict[Any, Any](), list(keys)
        for start in range(0, len(wanted), _MOST_PARAMETERS):
            some = self._key.in_(wanted[start : start + _MOST_PARAMETERS])
            rows = self._connection.execute(select(self._key, self._text).where(some))
            found |= {key: json.loads(text) for key, text in rows}
        return found

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


def round_contributions(connection: Connection) -> Projection:
    """Return what each client contributed to each round, by round id."""
    return Projection(connection, tables.round_contributions, "round_id", "contribution")


class Importances:
    """How much each client's contributions to a job weighed lately, a moving average by job and client."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of_job(self, job_id: int, clients: Iterable[str]) -> dict[str, float]:
        """Return the averages of some clients, for those that have one."""
        table, wanted = tables.contributors.c, sorted(set(clients))
        query = select(table.client_id, table.importance).where(table.job_id == job_id)
        found: dict[str, float] = {}
        for start in range(0, len(wanted), _MOST_PARAMETERS):
            some = query.where(table.client_id.in_(wanted[start : start + _MOST_PARAMETERS]))
            found |= {client_id: importance for client_id, importance in self._connection.execute(some)}
        return found

    def put(self, job_id: int, importances: Mapping[str, float]) -> None:
        """Write averages."""
        known = self.of_job(job_id, importances)
        table = tables.contributors
        change = update(table).where(table.c.job_id == job_id, table.c.client_id == bindparam("client"))
        old = [{"client": name, "value": value} for name, value in importances.items() if name in known]
        new = [
            {"job_id": job_id, "client_id": name, "importance": value}
            for name, value in importances.items()
            if name not in known
        ]
        if old:
            self._connection.execute(change.values(importance=bindparam("value")), old)
        if new:
            self._connection.execute(insert(table), new)

    def clear(self) -> None:
        """Forget everything, before a rebuild."""
        self._connection.execute(delete(tables.contributors))
