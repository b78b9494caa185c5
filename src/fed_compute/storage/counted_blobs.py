"""A blob store that counts what is asked of it, what fails and how much goes through."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fed_compute.errors import FedComputeError
from fed_compute.ids import Digest
from fed_compute.storage.blobs import BlobStore, Bytes
from fed_compute.storage.tally import Tally

OS_ERROR = "os_error"
"""What stands for a code where the operating system refuses."""


class CountedBlobs:
    """Hands every call on to another store. `calls` and `num_bytes` are by operation, `errors` by it and the code."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self.fingerprint = blobs.fingerprint
        self.calls: Tally[str] = Tally()
        self.errors: Tally[tuple[str, str]] = Tally()
        self.num_bytes: Tally[str] = Tally()

    def put(self, body: Bytes, digest: Digest | None = None) -> Digest:
        """Store bytes under their SHA-256, or the fingerprint that the caller knows; durable when this returns."""
        with self._counted("put"):
            digest = self._blobs.put(body, digest)
        self.num_bytes.add("put", len(body))
        return digest

    def put_file(self, path: Path, digest: Digest) -> None:
        """Take over a finished file whose SHA-256 the caller has computed; `path` is gone afterwards."""
        with self._counted("put"):
            num_bytes = path.stat().st_size
            self._blobs.put_file(path, digest)
        self.num_bytes.add("put", num_bytes)

    def get(self, digest: Digest) -> Bytes:
        """Return the bytes, checked against their name."""
        with self._counted("get"):
            body = self._blobs.get(digest)
        self.num_bytes.add("get", len(body))
        return body

    def size(self, digest: Digest) -> int | None:
        """Return the size in bytes, or None if there is no such blob."""
        with self._counted("look"):
            return self._blobs.size(digest)

    def digests(self) -> Iterator[Digest]:
        """Return the names of all blobs, in order."""
        with self._counted("list"):
            yield from self._blobs.digests()

    def age_seconds(self, digest: Digest, *, now: float) -> float:
        """Return how long before `now` (Unix seconds) a blob was last put, by the clock of the store."""
        with self._counted("look"):
            return self._blobs.age_seconds(digest, now=now)

    def remove(self, digest: Digest) -> None:
        """Delete a blob that nothing refers to. One that is gone already is no error."""
        with self._counted("remove"):
            self._blobs.remove(digest)

    def incoming(self, name: str) -> Path:
        """Return the path of a file of this machine for a body that is still arriving."""
        return self._blobs.incoming(name)

    def drop_incoming(self, *, older_than: float) -> int:
        """Delete bodies that stopped arriving before this file-system time; return how many."""
        return self._blobs.drop_incoming(older_than=older_than)

    @contextmanager
    def _counted(self, operation: str) -> Iterator[None]:
        self.calls.add(operation)
        try:
            yield
        except FedComputeError as error:
            self.errors.add((operation, error.code))
            raise
        except OSError:
            self.errors.add((operation, OS_ERROR))
            raise
