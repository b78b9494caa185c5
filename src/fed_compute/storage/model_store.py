"""Models and optimiser states by digest, write-once, with a small cache of the ones in use."""

import threading
from collections import OrderedDict

from fed_compute.ids import Digest
from fed_compute.storage.blobs import BlobStore


class ModelStore:
    """Persists model files by content. A stored model never changes; a changed file is detected.

    Memory: at most `cache_files` of the recently used files and `cache_bytes` in all, plus the one being read.
    """

    def __init__(self, blobs: BlobStore, *, cache_bytes: int = 64 << 20, cache_files: int = 16) -> None:
        self._blobs = blobs
        self._cache_bytes = cache_bytes
        self._cache_files = cache_files
        self._cache: OrderedDict[Digest, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, body: bytes) -> Digest:
        """Store a model file durably and return its digest."""
        digest = self._blobs.put(body)
        self._remember(digest, body)
        return digest

    def get(self, digest: Digest) -> bytes:
        """Return a model file.

        Raises:
            BlobMissing: if it is not in the store.
            BlobCorrupt: if its bytes were changed since it was stored.
        """
        with self._lock:
            body = self._cache.get(digest)
            if body is not None:
                self._cache.move_to_end(digest)
                return body
        body = bytes(self._blobs.get(digest))
        self._remember(digest, body)
        return body

    def _remember(self, digest: Digest, body: bytes) -> None:
        with self._lock:
            self._cache[digest] = body
            self._cache.move_to_end(digest)
            while len(self._cache) > 1 and self._is_full():
                self._cache.popitem(last=False)

    def _is_full(self) -> bool:
        return len(self._cache) > self._cache_files or sum(map(len, self._cache.values())) > self._cache_bytes
