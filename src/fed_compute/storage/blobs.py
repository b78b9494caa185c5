"""Blobs: immutable bytes under their SHA-256. A blob that has been put survives a power loss."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from fed_compute.errors import BlobCorrupt, BlobMissing
from fed_compute.ids import Digest


class BlobStore(Protocol):
    """Bytes by content. Putting the same bytes twice is one blob."""

    def put(self, body: bytes) -> Digest:
        """Store bytes; they are durable when this returns."""
        ...

    def put_file(self, path: Path, digest: Digest) -> None:
        """Take over a finished file whose SHA-256 the caller has computed; `path` is gone afterwards."""
        ...

    def get(self, digest: Digest) -> bytes:
        """Return the bytes, checked against their name.

        Raises:
            BlobMissing: if there is no such blob.
            BlobCorrupt: if the stored bytes no longer hash to their name.
        """
        ...

    def size(self, digest: Digest) -> int | None:
        """Return the size in bytes, or None if there is no such blob."""
        ...

    def digests(self) -> Iterator[Digest]:
        """Return the names of all blobs."""
        ...


class LocalBlobStore:
    """Blobs as files `blobs/ab/abcd…`, written beside and renamed, file and folder fsynced."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True)

    def put(self, body: bytes) -> Digest:
        """Store bytes; they are durable when this returns."""
        digest = Digest(hashlib.sha256(body).hexdigest())
        if self.size(digest) == len(body):
            return digest
        path = self._incoming / f"{digest}.{os.urandom(6).hex()}"
        with path.open("wb") as file:
            file.write(body)
        self.put_file(path, digest)
        return digest

    def put_file(self, path: Path, digest: Digest) -> None:
        """Take over a finished file whose SHA-256 the caller has computed; `path` is gone afterwards."""
        target = self.path(digest)
        _sync(path)
        if not target.parent.exists():
            target.parent.mkdir(exist_ok=True)
            _sync(self._root)
        path.replace(target)
        _sync(target.parent)

    def get(self, digest: Digest) -> bytes:
        """Return the bytes, checked against their name."""
        try:
            body = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise BlobMissing(digest) from None
        got = hashlib.sha256(body).hexdigest()
        if got != digest:
            raise BlobCorrupt(digest=digest, got=got)
        return body

    def path(self, digest: Digest) -> Path:
        """Return where a blob lies, or would lie."""
        return self._root / digest[:2] / digest

    def size(self, digest: Digest) -> int | None:
        """Return the size in bytes, or None if there is no such blob."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def digests(self) -> Iterator[Digest]:
        """Return the names of all blobs."""
        return (Digest(path.name) for path in sorted(self._root.glob("[0-9a-f][0-9a-f]/*")))

    def age_seconds(self, digest: Digest, *, now: float) -> float:
        """Return how long ago a blob was written, by the file system's clock."""
        return now - self.path(digest).stat().st_mtime

    def remove(self, digest: Digest) -> None:
        """Delete a blob that nothing refers to."""
        self.path(digest).unlink(missing_ok=True)

    def drop_incoming(self, *, older_than: float) -> int:
        """Delete bodies that stopped arriving before this file-system time; return how many."""
        stale = [path for path in self._incoming.iterdir() if path.stat().st_mtime < older_than]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    def incoming(self, name: str) -> Path:
        """Return a path for a body that is still arriving, on the same file system as the blobs."""
        return self._incoming / name


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
