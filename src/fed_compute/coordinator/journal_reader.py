"""Following the journal: each reader has a cursor, stored in the transaction that stores what it read."""

import json
from collections.abc import Callable
from typing import Any

from fed_compute.rounds.records import Entry
from fed_compute.storage.sql.store import Records, Store

Payload = dict[str, Any]
State = dict[str, Any]
Fold = Callable[[Records, Entry, Payload, State], None]
"""Takes one entry in: changes projections and the small `state`; sees each entry exactly once, in order."""
Flush = Callable[[Records], None]
"""Writes what a fold held back."""


def catch_up(store: Store, reader: str, fold: Fold, *, batch: int = 500, flush: Flush = lambda records: None) -> bool:
    """Let a reader take in every entry it has not seen. Say whether there was one.

    `flush` is called at the end of each batch, in the transaction that the batch was read in.
    """
    with store.snapshot() as records:
        seq, _ = records.journal.cursor(reader)
        if records.journal.last_seq() <= seq:
            return False
    while _take_batch(store, reader, fold, batch, flush):
        pass
    return True


def _take_batch(store: Store, reader: str, fold: Fold, batch: int, flush: Flush) -> bool:
    with store.transaction() as records:
        seq, state = records.journal.cursor(reader)
        entries, state = records.journal.after(seq, limit=batch), dict(state)
        for entry in entries:
            fold(records, entry, json.loads(entry.payload), state)
        flush(records)
        if entries:
            records.journal.move_cursor(reader, entries[-1].seq, state)
        return len(entries) == batch
