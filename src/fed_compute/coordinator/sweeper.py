"""Removes blobs that nothing refers to: what a process left that died between blob and commit."""

from fed_compute.clock import Clock
from fed_compute.coordinator.folding import read_manifest
from fed_compute.storage.blobs import LocalBlobStore
from fed_compute.storage.sql.store import Records, Store

ORPHAN_SECONDS = 24 * 3600.0
INTERVAL_SECONDS = 3600.0


class Sweeper:
    """Looks once an hour, and removes orphans and unfinished bodies that are older than a day."""

    def __init__(self, store: Store, blobs: LocalBlobStore, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._swept_at = float("-inf")

    def sweep(self) -> bool:
        """Remove old orphans, if an hour has passed. Say whether any was removed."""
        if self._clock.monotonic() - self._swept_at < INTERVAL_SECONDS:
            return False
        self._swept_at = self._clock.monotonic()
        with self._store.snapshot() as records:
            known = referenced(records)
        now = self._clock.now()
        orphans = [
            digest
            for digest in self._blobs.digests()
            if digest not in known and self._blobs.age_seconds(digest, now=now) > ORPHAN_SECONDS
        ]
        for digest in orphans:
            self._blobs.remove(digest)
        return self._blobs.drop_incoming(older_than=now - ORPHAN_SECONDS) + len(orphans) > 0


def referenced(records: Records) -> set[str]:
    """Return the digests of all blobs that the records name."""
    named: set[str] = {update.digest for update in records.updates.all()}
    for job in records.jobs.all():
        for version in records.versions.of_job(job.job_id):
            named.add(version.digest)
            named |= {digest for _, digest, _ in read_manifest(version.manifest)}
            if version.optimizer_digest is not None:
                named.add(version.optimizer_digest)
    return named
