"""What the reputation's reader has kept of a client, for whoever may act on it."""

from fed_compute.ids import ClientId
from fed_compute.rounds.scoring import Standing
from fed_compute.storage.sql.store import Records


def standing_of(records: Records, client_id: ClientId) -> Standing | None:
    """Return what is kept of a client, None if nothing is: the reader has not come to it, or is not at work."""
    kept = records.standings.get(client_id)
    return None if kept is None else Standing.from_json(kept)
