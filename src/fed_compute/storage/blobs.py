"""Blobs: immutable bytes under their SHA-256. A blob that has been put survives a power loss."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from fed_compute.errors import BlobCorrupt, BlobMissing
from fed_compute.ids import Digest

Bytes = bytes | memoryview
"""Bytes that nobody changes: an object of their own, or a read-only view of memory that others hold too."""


def sha256_of(body: Bytes) -> Digest:
    """Return the SHA-256 of bytes in lower-case hexadecimal. Reads at about 2 GB/s."""
    return Digest(hashlib.sha256(body).hexdigest())


class BlobStore(Protocol):
    """Bytes by content. Putting the same bytes twice under one name is one blob."""

    @property
    def fingerprint(self) -> Callable[[Bytes], Digest]:
        """The quickest way to name bytes that is safe here: SHA-256, unless only this process can reach them."""
        ...

    def put(self, body: Bytes, digest: Digest | None = None) -> Digest:
        """Store bytes under their SHA-256, or the fingerprint that the caller knows; durable when this returns."""
        ...

    def put_file(self, path: Path, digest: Digest) -> None:
        """Take over a finished file whose SHA-256 the caller has computed; `path` is gone afterwards."""
        ...

    def get(self, digest: Digest) -> Bytes:
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
        """Return the names of all blobs, in order."""
        ...

    def age_seconds(self, digest: Digest, *, now: float) -> float:
        """Return how long before `now` (Unix seconds) a blob was last put, by the clock of the store.

        Raises:
            BlobMissing: if there is no such blob.
        """
        ...

    def remove(self, digest: Digest) -> None:
        """Delete a blob that nothing refers to. One that is gone already is no error."""
        ...

    def incoming(self, name: str) -> Path:
        """Return the path of a file of this machine for a body that is still arriving."""
        ...

    def drop_incoming(self, *, older_than: float) -> int:
        """Delete bodies that stopped arriving before this file-system time; return how many."""
        ...


class Spool:
    """The folder of this machine where bodies lie while they arrive."""

    def __init__(self, root: Path) -> None:
        self._root = root
        make_folder(root)

    def path(self, name: str) -> Path:
        """Return the path of one body."""
        return self._root / name

    def drop(self, *, older_than: float) -> int:
        """Delete bodies last written before this file-system time; return how many."""
        stale = [path for path in self._root.iterdir() if path.stat().st_mtime < older_than]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)


class LocalBlobStore:
    """Blobs as files `blobs/ab/abcd…`, written beside and renamed, file and folder fsynced."""

    fingerprint = staticmethod(sha256_of)

    def __init__(self, root: Path) -> None:
        self._root = root
        self._spool = Spool(root / "incoming")  # on the same file system, so that a rename is enough
        self._shelves: set[Path] = set()  # folders known to be durable; one that is there may not be yet

    def put(self, body: Bytes, digest: Digest | None = None) -> Digest:
        """Store bytes under their SHA-256, which the caller may know; they are durable when this returns.

        A blob that is there already is written anew: that makes it young, so nobody sweeps it away before
        a row names it, and mends one that was damaged.
        """
        digest = digest or sha256_of(body)
        path = self.incoming(f"{digest}.{os.urandom(6).hex()}")
        with path.open("wb") as file:
            file.write(body)
        self.put_file(path, digest)
        return digest

    def put_file(self, path: Path, digest: Digest) -> None:
        """Take over a finished file whose SHA-256 the caller has computed; `path` is gone afterwards."""
        target = self.path(digest)
        shelf = target.parent
        sync(path)
        if shelf not in self._shelves:
            shelf.mkdir(exist_ok=True)
            sync(self._root)
            self._shelves.add(shelf)
        path.replace(target)
        sync(shelf)

    def get(self, digest: Digest) -> bytes:
        """Return the bytes, checked against their name."""
        try:
            body = self.path(digest).read_bytes()
        except FileNotFoundError:
            raise BlobMissing(digest) from None
        got = sha256_of(body)
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
        """Return the names of all blobs, in order."""
        return (Digest(path.name) for path in sorted(self._root.glob("[0-9a-f][0-9a-f]/*")))

    def age_seconds(self, digest: Digest, *, now: float) -> float:
        """Return how long before `now` a blob was last put, by the file system's clock."""
        try:
            return now - self.path(digest).stat().st_mtime
        except FileNotFoundError:
            raise BlobMissing(digest) from None

    def remove(self, digest: Digest) -> None:
        """Delete a blob that nothing refers to. One that is gone already is no error."""
        self.path(digest).unlink(missing_ok=True)

    def incoming(self, name: str) -> Path:
        """Return a path for a body that is still arriving, on the same file system as the blobs."""
        return self._spool.path(name)

    def drop_incoming(self, *, older_than: float) -> int:
        """Delete bodies that stopped arriving before this file-system time; return how many."""
        return self._spool.drop(older_than=older_than)


def sync(path: Path) -> None:
    """Make a file's contents, or a folder's names, survive a power loss."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, durable when this returns. One that cannot be made durable is not made."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(exist_ok=True)
    try:
        sync(path.parent)
    except OSError:
        path.rmdir()
        raise
