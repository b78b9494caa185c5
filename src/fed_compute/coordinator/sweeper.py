"""Removes blobs that nothing refers to: what a process left that died between blob and commit."""

from fed_compute.clock import Clock
from fed_compute.coordinator.folding import read_manifest
from fed_compute.errors import BlobMissing
from fed_compute.ids import Digest
from fed_compute.storage.blobs import BlobStore
from fed_compute.storage.sql.store import Records, Store

ORPHAN_SECONDS = 24 * 3600.0
INTERVAL_SECONDS = 3600.0


class Sweeper:
    """Looks once an hour, and removes orphans and unfinished bodies that are older than a day."""

    def __init__(self, store: Store, blobs: BlobStore, clock: Clock) -> None:
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
        removed = self._blobs.drop_incoming(older_than=self._clock.now() - ORPHAN_SECONDS)
        for digest in self._blobs.digests():
            # Asked right before it goes: a blob that was put again meanwhile is young and stays.
            if digest not in known and self._is_old(digest):
                self._blobs.remove(digest)
                removed += 1
        return removed > 0

    def _is_old(self, digest: Digest) -> bool:
        try:
            return self._blobs.age_seconds(digest, now=self._clock.now()) > ORPHAN_SECONDS
        except BlobMissing:
            return False  # the sweeper of another replica was here


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
