"""The whole ledger, row by row, for an operator's own books."""

from collections.abc import Iterator
from dataclasses import astuple, fields

from fed_compute.storage.sql.ledger import LedgerRow
from fed_compute.storage.sql.store import Store

COLUMNS = tuple(field.name for field in fields(LedgerRow))
GROUPS_AT_ONCE = 500


def rows_of_ledger(store: Store) -> Iterator[tuple[object, ...]]:
    """Return every entry in the order of posting, its values in the order of `COLUMNS`.

    What is posted meanwhile comes last: the ledger only grows. Memory: one page, however long it is.
    """
    last = 0
    while True:
        with store.snapshot() as records:
            rows = records.ledger.rows_after(last, limit=GROUPS_AT_ONCE)
        if not rows:
            return
        yield from (astuple(row) for row in rows)
        last = rows[-1].group_id
