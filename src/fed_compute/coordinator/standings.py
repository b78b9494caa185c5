"""What the reputation's reader has kept of clients, for whoever may act on it."""

from collections.abc import Iterable

from fed_compute.ids import ClientId
from fed_compute.rounds.scoring import Standing
from fed_compute.storage.sql.store import Records


def standing_of(records: Records, client_id: ClientId) -> Standing | None:
    """Return what is kept of a client, None if nothing is: the reader has not come to it, or is not at work."""
    kept = records.standings.get(client_id)
    return None if kept is None else Standing.from_json(kept)


def standings_of(records: Records, clients: Iterable[ClientId]) -> dict[ClientId, Standing | None]:
    """Return what is kept of some clients, in their order, asked for together."""
    wanted = list(clients)
    kept = records.standings.some(wanted)
    return {client: Standing.from_json(kept[client]) if client in kept else None for client in wanted}
