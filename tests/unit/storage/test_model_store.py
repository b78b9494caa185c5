"""What the store of models keeps in memory: as long as a coordinator runs, each round brings a new model."""

from pathlib import Path

import pytest

from fed_compute.errors import BlobMissing
from fed_compute.storage.blobs import LocalBlobStore
from fed_compute.storage.model_store import ModelStore


def test_only_the_files_used_last_are_kept_in_memory(tmp_path: Path) -> None:
    blobs = LocalBlobStore(tmp_path)
    models = ModelStore(blobs, cache_files=2)
    digests = [models.put(bytes([number])) for number in range(3)]
    for digest in digests:
        blobs.remove(digest)
    assert [models.get(digest) for digest in digests[1:]] == [b"\x01", b"\x02"]
    with pytest.raises(BlobMissing):
        models.get(digests[0])


def test_a_file_larger_than_all_the_memory_is_kept_alone(tmp_path: Path) -> None:
    blobs = LocalBlobStore(tmp_path)
    models = ModelStore(blobs, cache_bytes=10)
    small, large = models.put(b"small"), models.put(bytes(100))
    for digest in (small, large):
        blobs.remove(digest)
    assert models.get(large) == bytes(100)
    with pytest.raises(BlobMissing):
        models.get(small)
