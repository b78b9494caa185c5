"""The journal: one line per state change, written in the transaction that makes the change."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, update

from fed_compute.ids import ClientId, JobId, RoundId, TaskId
from fed_compute.rounds.records import Entry, Task
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.batches import insert_all
from fed_compute.storage.sql.rows import columns, record

_ENTRY = columns(tables.journal, Entry)
_J = tables.journal.c
_LAST = f"SELECT max(seq) FROM {tables.journal.name}"  # noqa: S608 -- our own name

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)  # made once: that costs as much as a line


class Line(NamedTuple):
    """One entry that is not written yet: `line` makes it."""

    kind: str
    at: float
    job_id: JobId | None
    round_id: RoundId | None
    client_id: ClientId | None
    task_id: TaskId | None
    payload: str


def line(
    kind: str,
    *,
    at: float,
    job_id: JobId | None = None,
    round_id: RoundId | None = None,
    client_id: ClientId | None = None,
    task_id: TaskId | None = None,
    **payload: Any,
) -> Line:
    """Return an entry to be written. `payload` must be plain JSON data without secrets or model values."""
    return Line(kind, at, job_id, round_id, client_id, task_id, _ENCODER.encode(payload))


def task_line(kind: str, task: Task, /, *, at: float, **payload: Any) -> Line:
    """Return an entry about a task, in its round and of its client, to be written."""
    return task_lines(kind, [task], at=at, **payload)[0]


def task_lines(kind: str, tasks: Iterable[Task], /, *, at: float, **payload: Any) -> list[Line]:
    """Return the same entry about each of many tasks, to be written."""
    text = _ENCODER.encode(payload)
    return [Line(kind, at, task.job_id, task.round_id, task.client_id, task.task_id, text) for task in tasks]


class JournalRows:
    """Appends entries and lets readers follow them, each with a cursor of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.num_appended = 0  # entries of this transaction so far

    def appended(self) -> list[Entry]:
        """Return what this transaction has appended so far, oldest first. There is one writer at a time."""
        return self.newest(limit=self.num_appended)[::-1] if self.num_appended else []

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
        self.append_all(
            [line(kind, at=at, job_id=job_id, round_id=round_id, client_id=client_id, task_id=task_id, **payload)]
        )

    def append_all(self, lines: Sequence[Line]) -> None:
        """Write entries in their order, in one statement; none is fine."""
        insert_all(self._connection, tables.journal, Line._fields, lines)
        self.num_appended += len(lines)

    def after(self, seq: int, *, limit: int = 1000) -> list[Entry]:
        """Return the entries after number `seq`, oldest first, at most `limit`."""
        query = select(*_ENTRY).where(tables.journal.c.seq > seq).order_by(tables.journal.c.seq).limit(limit)
        return [record(Entry, row) for row in self._connection.execute(query)]

    def of_round(self, round_id: RoundId, *, after: int = 0, kinds: Collection[str] = ()) -> list[Entry]:
        """Return the entries about one round after number `after`, all or those of some kinds, oldest first."""
        query = select(*_ENTRY).where(_J.round_id == round_id, _J.seq > after).order_by(_J.seq)
        if kinds:
            query = query.where(_J.kind.in_(list(kinds)))
        return [record(Entry, row) for row in self._connection.execute(query)]

    def newest(
        self,
        *,
        limit: int,
        above: int = 0,
        below: int | None = None,
        kind: str | None = None,
        client_id: str | None = None,
        job_id: int | None = None,
        without: Collection[str] = (),
    ) -> list[Entry]:
        """Return the newest entries, newest first, at most `limit`: of a kind, a client, a job, without some kinds.

        Only numbers above `above` and below `below` are looked at. There is an index on the client; entries of a
        rare kind or job are searched for one by one, so bound the numbers.
        """
        query = select(*_ENTRY).where(_J.seq > above).order_by(_J.seq.desc()).limit(limit)
        if below is not None:
            query = query.where(_J.seq < below)
        for column, wanted in ((_J.kind, kind), (_J.client_id, client_id), (_J.job_id, job_id)):
            if wanted is not None:
                query = query.where(column == wanted)
        if without:
            query = query.where(_J.kind.not_in(list(without)))
        return [record(Entry, row) for row in self._connection.execute(query)]

    def last_seq(self) -> int:
        """Return the number of the newest entry, 0 if there is none."""
        cursor = self._connection.connection.cursor()  # the driver's own: every batch and every view of memory asks
        cursor.execute(_LAST)
        return (cursor.fetchone() or (None,))[0] or 0

    def cursor(self, reader: str) -> tuple[int, Mapping[str, Any]]:
        """Return how far a reader got, and the small state that it keeps beside the cursor."""
        query = select(tables.cursors.c.seq, tables.cursors.c.state).where(tables.cursors.c.reader == reader)
        row = self._connection.execute(query).one_or_none()
        return (0, {}) if row is None else (row.seq, json.loads(row.state))

    def cursors(self) -> dict[str, int]:
        """Return how far each reader got, by name."""
        query = select(tables.cursors.c.reader, tables.cursors.c.seq).order_by(tables.cursors.c.reader)
        return {reader: seq for reader, seq in self._connection.execute(query)}

    def move_cursor(self, reader: str, seq: int, state: Mapping[str, Any]) -> None:
        """Record how far a reader got. Do it in the transaction that stores what it read."""
        text = json.dumps(state, separators=(",", ":"))
        moved = self._connection.execute(
            update(tables.cursors).where(tables.cursors.c.reader == reader).values(seq=seq, state=text)
        )
        if moved.rowcount == 0:
            self._connection.execute(insert(tables.cursors).values(reader=reader, seq=seq, state=text))
