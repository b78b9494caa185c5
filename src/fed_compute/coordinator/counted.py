"""How many updates of each client a job has counted: asked once, then kept up with what is published."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fed_compute.ids import ClientId, JobId
from fed_compute.learning.aggregation.influence import ESTABLISHED_AFTER
from fed_compute.rounds.records import Round, Version
from fed_compute.storage.sql.store import Records

MOST_CLIENTS = 100_000
"""Clients of a job that are remembered at once, about 10 MiB. Beyond, memory begins anew."""


@dataclass(slots=True)
class _Counts:
    """What is known as of a version: updates counted so far, at most `ESTABLISHED_AFTER` of each client."""

    version: int
    of_client: dict[ClientId, int] = field(default_factory=dict)
    has_established: bool = False

    def put(self, counts: Iterable[tuple[ClientId, int]]) -> None:
        for client_id, count in counts:
            self.of_client[client_id] = min(count, ESTABLISHED_AFTER)
            self.has_established |= count >= ESTABLISHED_AFTER


class CountedUpdates:
    """Remembers each job's counts as of its latest version.

    A round that is closed publishes a version, so what was counted before a round follows from the version that it
    starts from. Where another process has published meanwhile, only the established are sure: they stay so.
    """

    def __init__(self) -> None:
        self._jobs: dict[JobId, _Counts] = {}

    def has_established(self, job_id: JobId) -> bool:
        """Say whether the job is known to have a client that is no newcomer."""
        counts = self._jobs.get(job_id)
        return counts is not None and counts.has_established

    def before(self, records: Records, round_: Round, clients: Sequence[ClientId]) -> dict[ClientId, int]:
        """Return how many updates of each client were counted before a live round, at most `ESTABLISHED_AFTER`."""
        counts = self._as_of(round_.job_id, round_.base_version)
        if unknown := [client_id for client_id in clients if client_id not in counts.of_client]:
            found = records.updates.counted(round_.job_id, unknown, limit=ESTABLISHED_AFTER, before=round_.round_id)
            counts.put(found.items())
        return {client_id: counts.of_client[client_id] for client_id in clients}

    def note(self, version: Version, clients: Sequence[ClientId]) -> None:
        """Take note of a version that was published, with one update of each of these clients."""
        counts = self._as_of(version.job_id, version.version - 1)
        counts.put(
            (client_id, counts.of_client[client_id] + 1) for client_id in clients if client_id in counts.of_client
        )
        counts.version = version.version

    def _as_of(self, job_id: JobId, version: int) -> _Counts:
        counts = self._jobs.get(job_id)
        if counts is None or len(counts.of_client) > MOST_CLIENTS:
            counts = self._jobs[job_id] = _Counts(version)
        elif counts.version != version:
            sure = [(client_id, count) for client_id, count in counts.of_client.items() if count >= ESTABLISHED_AFTER]
            counts = self._jobs[job_id] = _Counts(version)
            counts.put(sure)
        return counts
