"""Blobs in the memory of one process: for simulations and experiments, which keep nothing."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from fed_compute.clock import Clock, SystemClock
from fed_compute.errors import BlobMissing
from fed_compute.ids import Digest
from fed_compute.storage.blobs import Spool

_SYSTEM_CLOCK = SystemClock()


class MemoryBlobStore:
    """Immutable bytes under their SHA-256, gone with the process. They need no check against their name.

    Memory: all of them, until they are removed. Bodies that are still arriving lie in a folder.
    """

    def __init__(self, spool: Path, *, clock: Clock = _SYSTEM_CLOCK) -> None:
        self._spool = Spool(spool)
        self._clock = clock
        self._bodies: dict[Digest, bytes] = {}
        self._put_at: dict[Digest, float] = {}

    def put(self, body: bytes) -> Digest:
        """Store bytes. The object itself is kept, not a copy."""
        digest = Digest(hashlib.sha256(body).hexdigest())
        self._keep(digest, body)
        return digest

    def put_file(self, path: Path, digest: Digest) -> None:
        """Take over a finished file whose SHA-256 the caller has computed; `path` is gone afterwards."""
        self._keep(digest, path.read_bytes())
        path.unlink()

    def get(self, digest: Digest) -> bytes:
        """Return the bytes.

        Raises:
            BlobMissing: if there is no such blob.
        """
        try:
            return self._bodies[digest]
        except KeyError:
            raise BlobMissing(digest) from None

    def size(self, digest: Digest) -> int | None:
        """Return the size in bytes, or None if there is no such blob."""
        body = self._bodies.get(digest)
        return None if body is None else len(body)

    def digests(self) -> Iterator[Digest]:
        """Return the names of all blobs, in order."""
        return iter(sorted(self._bodies))

    def age_seconds(self, digest: Digest, *, now: float) -> float:
        """Return how long before `now` a blob was last put.

        Raises:
            BlobMissing: if there is no such blob.
        """
        if digest not in self._put_at:
            raise BlobMissing(digest)
        return now - self._put_at[digest]

    def remove(self, digest: Digest) -> None:
        """Forget a blob. One that is gone already is no error."""
        self._bodies.pop(digest, None)
        self._put_at.pop(digest, None)

    def incoming(self, name: str) -> Path:
        """Return the path of a file for a body that is still arriving."""
        return self._spool.path(name)

    def drop_incoming(self, *, older_than: float) -> int:
        """Delete bodies that stopped arriving before this file-system time; return how many."""
        return self._spool.drop(older_than=older_than)

    def _keep(self, digest: Digest, body: bytes) -> None:
        self._bodies[digest], self._put_at[digest] = body, self._clock.now()
