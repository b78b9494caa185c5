"""Blobs in an object store: S3 and what speaks like it, Google Cloud Storage, Azure.

A key is made of the blob's own digest and so is never reused for other bytes: two writers of one blob write the same,
and no conditional put is needed. A large body goes up in parts, in constant memory.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore, from_url

from fed_compute.errors import BlobCorrupt, BlobMissing, BlobStoreUnreachable, BlobStoreUnusable, SettingInvalid
from fed_compute.ids import Digest
from fed_compute.storage.blobs import Bytes, Spool, sha256_of

SCHEMES = ("s3", "gs", "az")
MAX_RETRIES, RETRY_SECONDS = 4, 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ObjectBlobStore:
    """Blobs as objects `ab/abcd…`. Bodies that are still arriving lie in a folder of this machine."""

    fingerprint = staticmethod(sha256_of)

    def __init__(self, store: ObjectStore, spool: Path) -> None:
        self._store = store
        self._spool = Spool(spool)

    def put(self, body: Bytes, digest: Digest | None = None) -> Digest:
        """Store bytes under their SHA-256, which the caller may know; they are durable when this returns.

        Raises:
            BlobStoreUnreachable: if the store does not take them.
        """
        digest = digest or sha256_of(body)
        with _translated():
            obstore.put(self._store, _key(digest), body)
        return digest

    def put_file(self, path: Path, digest: Digest) -> None:
        """Take over a finished file whose SHA-256 the caller has computed; `path` is gone afterwards.

        Raises:
            BlobStoreUnreachable: if the store does not take it; the file stays.
        """
        with _translated():
            obstore.put(self._store, _key(digest), path)
        path.unlink()

    def get(self, digest: Digest) -> bytes:
        """Return the bytes, checked against their name.

        Raises:
            BlobMissing: if there is no such blob.
            BlobCorrupt: if the stored bytes no longer hash to their name.
            BlobStoreUnreachable: if the store does not answer.
        """
        with _translated(digest):
            body = bytes(obstore.get(self._store, _key(digest)).bytes())
        got = sha256_of(body)
        if got != digest:
            raise BlobCorrupt(digest=digest, got=got)
        return body

    def size(self, digest: Digest) -> int | None:
        """Return the size in bytes, or None if there is no such blob."""
        try:
            with _translated(digest):
                return obstore.head(self._store, _key(digest))["size"]
        except BlobMissing:
            return None

    def digests(self) -> Iterator[Digest]:
        """Return the names of all blobs, in order. Costs one request for each thousand."""
        with _translated():
            for chunk in obstore.list(self._store, chunk_size=1000):
                for meta in chunk:
                    name = meta["path"].rpartition("/")[2]
                    if _DIGEST.fullmatch(name):
                        yield Digest(name)

    def age_seconds(self, digest: Digest, *, now: float) -> float:
        """Return how long before `now` a blob was last put, by the store's clock.

        Raises:
            BlobMissing: if there is no such blob.
        """
        with _translated(digest):
            return now - obstore.head(self._store, _key(digest))["last_modified"].timestamp()

    def remove(self, digest: Digest) -> None:
        """Delete a blob that nothing refers to. One that is gone already is no error."""
        with _translated():
            obstore.delete(self._store, _key(digest))

    def incoming(self, name: str) -> Path:
        """Return the path of a file of this machine for a body that is still arriving."""
        return self._spool.path(name)

    def drop_incoming(self, *, older_than: float) -> int:
        """Delete bodies that stopped arriving before this file-system time; return how many."""
        return self._spool.drop(older_than=older_than)

    def probe(self) -> None:
        """Write, read, list and delete a small blob: wrong rights show at the start, not at the first update.

        Raises:
            BlobStoreUnusable: if any of that fails.
        """
        body = secrets.token_bytes(16)
        try:
            digest = self.put(body)
            self.get(digest)
            self.age_seconds(next(self.digests()), now=0.0)
            self.remove(digest)
        except StopIteration as error:
            raise BlobStoreUnusable(reason="what was written is not listed") from error
        except (BlobStoreUnreachable, BlobMissing, BlobCorrupt) as error:
            raise BlobStoreUnusable(reason=_first_line(error.__cause__ or error)) from error


def open_object_blobs(url: str, spool: Path) -> ObjectBlobStore:
    """Open an object store by URL, `s3://bucket/prefix`, `gs://…` or `az://…`. Nothing is asked of it yet.

    Credentials, region, endpoint and time-outs come from the environment, as the store's own tools read it.

    Raises:
        SettingInvalid: if it is no such URL.
    """
    if url.partition("://")[0] not in SCHEMES:
        raise SettingInvalid(f"blob_url is {url[:80]!r}, wanted s3://bucket/prefix, gs://bucket/prefix or az://…")
    try:
        # Client options given here would replace those of the environment, so none are.
        store = from_url(
            url,
            retry_config={"max_retries": MAX_RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        )
    except (BaseError, ValueError) as error:
        raise SettingInvalid(f"blob_url {url[:80]!r} cannot be used: {_first_line(error)}") from error
    return ObjectBlobStore(store, spool)


@contextmanager
def _translated(digest: Digest | None = None) -> Iterator[None]:
    """Turn the library's errors into the product's; `digest` is what is looked for."""
    try:
        yield
    except FileNotFoundError as error:
        if digest is None:  # not the object, but the place where objects lie
            raise BlobStoreUnreachable("NotFoundError") from error
        raise BlobMissing(digest) from error
    except BaseError as error:
        raise BlobStoreUnreachable(type(error).__name__) from error


def _key(digest: Digest) -> str:
    return f"{digest[:2]}/{digest}"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
