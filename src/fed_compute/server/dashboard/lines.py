"""The newest lines of the journal, as far as a visitor may see them."""

from collections.abc import Sequence

from fed_compute.coordinator.queries import newest_entries
from fed_compute.coordinator.sessions import Session
from fed_compute.coordinator.shown import Line, lines_of
from fed_compute.coordinator.wiring import Coordinator


def newest_lines(
    core: Coordinator, visitor: Session | None, *, limit: int, kind: str | None = None, client_id: str | None = None
) -> Sequence[Line]:
    """Return lines, newest first, from the newest `limit` entries: all, or those of a kind or a client."""
    entries = newest_entries(core.store, limit=limit, kind=kind, client_id=client_id)
    return lines_of(core.store, entries, for_staff=visitor is not None and visitor.is_staff)
