"""How many updates of each client a job has counted: asked once for each client, and counted on from there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fed_compute.ids import ClientId, JobId, RoundId
from fed_compute.learning.aggregation.influence import ESTABLISHED_AFTER
from fed_compute.rounds.records import Round
from fed_compute.storage.sql.store import Records

MOST_CLIENTS = 100_000
"""Clients of a job that are remembered at once; some 100 bytes each."""


@dataclass(slots=True)
class _Counts:
    """What a job has counted in the rounds up to `last`, by client, up to `ESTABLISHED_AFTER`."""

    last: RoundId | None = None
    by_client: dict[ClientId, int] = field(default_factory=dict)


class CountedUpdates:
    """Remembers what each job has counted, as of the last round that this process closed.

    If another round has ended since, whoever closed it or gave it up, only who is established is still known to be.
    """

    def __init__(self) -> None:
        self._jobs: dict[JobId, _Counts] = {}

    def before(self, records: Records, round_: Round, clients: Sequence[ClientId]) -> dict[ClientId, int]:
        """Return how many updates of each of these clients the job counted before a round, at most what establishes."""
        counts = self._jobs.setdefault(round_.job_id, _Counts())
        last = next(iter(records.rounds.recent_closed_ids(round_.job_id, limit=1, before=round_.round_id)), None)
        if counts.last != last:
            counts.last = last
            counts.by_client = {one: count for one, count in counts.by_client.items() if count == ESTABLISHED_AFTER}
        if unknown := [client_id for client_id in clients if client_id not in counts.by_client]:
            if len(counts.by_client) > MOST_CLIENTS:
                counts.by_client.clear()
                unknown = list(clients)
            found = records.updates.counted(round_.job_id, unknown, limit=ESTABLISHED_AFTER, before=round_.round_id)
            counts.by_client |= dict.fromkeys(unknown, 0) | found
        return {client_id: counts.by_client[client_id] for client_id in clients}

    def add(self, round_: Round, clients: Iterable[ClientId]) -> None:
        """Count the updates of a round, one of each of these clients, that `before` was asked about and is closed."""
        counts = self._jobs[round_.job_id]
        counts.last = round_.round_id
        for client_id in clients:
            counts.by_client[client_id] = min(ESTABLISHED_AFTER, counts.by_client[client_id] + 1)
