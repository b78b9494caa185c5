"""The journal: one line per state change, written in the transaction that makes the change."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from fed_compute.ids import ClientId, JobId, RoundId, TaskId
from fed_compute.rounds.records import Entry
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rows import columns, record

_ENTRY = columns(tables.journal, Entry)
_INSERT = insert(tables.journal).returning(tables.journal.c.seq)


class JournalRows:
    """Appends entries and lets readers follow them, each with a cursor of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._appended: list[Entry] = []

    @property
    def appended(self) -> Sequence[Entry]:
        """What this transaction has appended so far."""
        return self._appended

    def append(
        self,
        kind: str,
        *,
        at: float,
        job_id: JobId | None = None,
        round_id: RoundId | None = None,
        client_id: ClientId | None = None,
        task_id: TaskId | None = None,
        **payload: Any,
    ) -> None:
        """Write one entry. `payload` must be plain JSON data without secrets or model values."""
        values: dict[str, Any] = {
            "kind": kind,
            "at": at,
            "job_id": job_id,
            "round_id": round_id,
            "client_id": client_id,
            "task_id": task_id,
            "payload": json.dumps(payload, separators=(",", ":"), allow_nan=False),
        }
        self._appended.append(Entry(seq=self._connection.execute(_INSERT, values).scalar_one(), **values))

    def after(self, seq: int, *, limit: int = 1000) -> list[Entry]:
        """Return the entries after number `seq`, oldest first, at most `limit`."""
        query = select(*_ENTRY).where(tables.journal.c.seq > seq).order_by(tables.journal.c.seq).limit(limit)
        return [record(Entry, row) for row in self._connection.execute(query)]

    def of_round(self, round_id: RoundId) -> list[Entry]:
        """Return the entries about one round, oldest first."""
        query = select(*_ENTRY).where(tables.journal.c.round_id == round_id).order_by(tables.journal.c.seq)
        return [record(Entry, row) for row in self._connection.execute(query)]

    def newest(self, *, limit: int, kind: str | None = None, client_id: str | None = None) -> list[Entry]:
        """Return the newest entries, newest first, at most `limit`: all, or those of a kind or a client."""
        query = select(*_ENTRY).order_by(tables.journal.c.seq.desc()).limit(limit)
        if kind is not None:
            query = query.where(tables.journal.c.kind == kind)
        if client_id is not None:
            query = query.where(tables.journal.c.client_id == client_id)
        return [record(Entry, row) for row in self._connection.execute(query)]

    def last_seq(self) -> int:
        """Return the number of the newest entry, 0 if there is none."""
        return self._connection.execute(select(func.max(tables.journal.c.seq))).scalar() or 0

    def cursor(self, reader: str) -> tuple[int, Mapping[str, Any]]:
        """Return how far a reader got, and the small state that it keeps beside the cursor."""
        query = select(tables.cursors.c.seq, tables.cursors.c.state).where(tables.cursors.c.reader == reader)
        row = self._connection.execute(query).one_or_none()
        return (0, {}) if row is None else (row.seq, json.loads(row.state))

    def move_cursor(self, reader: str, seq: int, state: Mapping[str, Any]) -> None:
        """Record how far a reader got. Do it in the transaction that stores what it read."""
        text = json.dumps(state, separators=(",", ":"))
        moved = self._connection.execute(
            update(tables.cursors).where(tables.cursors.c.reader == reader).values(seq=seq, state=text)
        )
        if moved.rowcount == 0:
            self._connection.execute(insert(tables.cursors).values(reader=reader, seq=seq, state=text))
