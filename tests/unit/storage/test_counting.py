"""What a process counts of its own storage: every call, every failure by its code, nothing lost between threads."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from fed_compute.errors import BlobMissing, StorageFailed
from fed_compute.ids import Digest
from fed_compute.storage.blobs import LocalBlobStore
from fed_compute.storage.counted_blobs import CountedBlobs
from fed_compute.storage.sql.database import open_database
from fed_compute.storage.tally import Tally

NOWHERE = Digest("0" * 64)


def test_threads_that_count_together_lose_nothing() -> None:
    tally: Tally[str] = Tally()
    threads = [threading.Thread(target=lambda: [tally.add("x") for _ in range(500)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.read() == {"x": 2000}


def test_blobs_are_counted_by_what_was_asked_and_how_much_went_through(tmp_path: Path) -> None:
    blobs = CountedBlobs(LocalBlobStore(tmp_path / "blobs"))
    digest = blobs.put(b"12345")
    assert blobs.get(digest) == b"12345"
    assert (blobs.size(digest), list(blobs.digests())) == (5, [digest])
    blobs.remove(digest)
    assert blobs.calls.read() == {"put": 1, "get": 1, "look": 1, "list": 1, "remove": 1}
    assert blobs.num_bytes.read() == {"put": 5, "get": 5}
    assert blobs.errors.read() == {}


def test_what_blobs_refuse_is_counted_by_its_code_and_still_raised(tmp_path: Path) -> None:
    blobs = CountedBlobs(LocalBlobStore(tmp_path / "blobs"))
    with pytest.raises(BlobMissing):
        blobs.get(NOWHERE)
    with pytest.raises(OSError, match="No such file"):
        blobs.put_file(tmp_path / "gone", NOWHERE)
    assert blobs.errors.read() == {("get", "blob_missing"): 1, ("put", "os_error"): 1}
    assert blobs.num_bytes.read() == {}


def test_transactions_are_counted_and_so_is_why_they_failed() -> None:
    database = open_database("sqlite://")
    with database.write() as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER)"))
    with database.read() as connection:
        connection.execute(text("SELECT x FROM t"))
    with pytest.raises(StorageFailed), database.read() as connection:
        connection.execute(text("SELECT y FROM t"))
    database.close()
    assert database.load.begun.read() == {"write": 1, "read": 2}
    assert database.load.failed.read() == {StorageFailed.code: 1}
    assert database.load.waited_seconds.read().keys() == {"write"}
