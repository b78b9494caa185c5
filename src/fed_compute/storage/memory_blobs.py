"""Blobs in the memory of one process: for simulations and experiments, which keep nothing."""

from collections.abc import Iterator
from pathlib import Path

import xxhash

from fed_compute.clock import Clock, SystemClock
from fed_compute.errors import BlobMissing
from fed_compute.ids import Digest
from fed_compute.storage.blobs import Bytes, Spool, sha256_of

_SYSTEM_CLOCK = SystemClock()


def _fingerprint(body: Bytes) -> Digest:
    """Return 256 bits that name bytes among those of this process. Reads at 20 GB/s, and nobody forges for himself.

    They are the SHA-256 of 128 bits of XXH3 and of the length. Source: https://github.com/Cyan4973/xxHash.
    """
    return sha256_of(xxhash.xxh3_128_digest(body) + len(body).to_bytes(8, "big"))


class MemoryBlobStore:
    """Immutable bytes under their SHA-256 or fingerprint, gone with the process. They need no check against the name.

    Memory: all of them, until they are removed. Bodies that are still arriving lie in a folder.
    """

    fingerprint = staticmethod(_fingerprint)

    def __init__(self, spool: Path, *, clock: Clock = _SYSTEM_CLOCK) -> None:
        self._spool = Spool(spool)
        self._clock = clock
        self._bodies: dict[Digest, Bytes] = {}
        self._put_at: dict[Digest, float] = {}

    def put(self, body: Bytes, digest: Digest | None = None) -> Digest:
        """Store bytes under their SHA-256, or the name that the caller knows. The object itself is kept, not a copy."""
        digest = digest or sha256_of(body)
        self._keep(digest, body)
        return digest

    def put_file(self, path: Path, digest: Digest) -> None:
        """Take over a finished file whose SHA-256 the caller has computed; `path` is gone afterwards."""
        self._keep(digest, path.read_bytes())
        path.unlink()

    def get(self, digest: Digest) -> Bytes:
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

    def _keep(self, digest: Digest, body: Bytes) -> None:
        self._bodies[digest], self._put_at[digest] = body, self._clock.now()
