"""What a blob store promises, in a folder, in memory, and in S3."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import obstore
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fed_compute.clock import ManualClock
from fed_compute.coordinator.sweeper import ORPHAN_SECONDS, Sweeper
from fed_compute.errors import BlobCorrupt, BlobMissing, BlobStoreUnreachable, BlobStoreUnusable, SettingInvalid
from fed_compute.ids import Digest
from fed_compute.storage.blob_stores import open_blobs
from fed_compute.storage.blobs import BlobStore, LocalBlobStore
from fed_compute.storage.memory_blobs import MemoryBlobStore
from fed_compute.storage.object_blobs import ObjectBlobStore, open_object_blobs
from fed_compute.storage.sql.store import Store
from tests.contract.conftest import BUCKET, Place
from tests.contract.crowd import at_once
from tests.contract.samples import add_job, version_of

NOWHERE = Digest("0" * 64)


def digest_of(body: bytes) -> Digest:
    """Return the name of a blob."""
    return Digest(hashlib.sha256(body).hexdigest())


def damage(blobs: BlobStore, digest: Digest, body: bytes) -> None:
    """Change a stored blob behind the store's back."""
    if isinstance(blobs, ObjectBlobStore):
        obstore.put(blobs._store, f"{digest[:2]}/{digest}", body)
    elif isinstance(blobs, LocalBlobStore):
        blobs.path(digest).write_bytes(body)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(body=st.binary(max_size=2000))
def test_any_bytes_come_back_under_their_digest(blobs: BlobStore, body: bytes) -> None:
    digest = blobs.put(body)
    assert digest == digest_of(body)
    assert blobs.get(digest) == body
    assert blobs.size(digest) == len(body)


def test_a_fingerprint_is_a_name_like_any_other(blobs: BlobStore) -> None:
    one, other = blobs.fingerprint(b"weights"), blobs.fingerprint(b"weighty")
    assert len(one) == 64
    assert one not in (other, blobs.fingerprint(b"weight"))
    assert blobs.put(b"weights", one) == one
    assert blobs.get(one) == b"weights"
    assert list(blobs.digests()) == [one]


def test_only_a_store_that_nobody_else_reaches_does_without_sha256(blobs: BlobStore) -> None:
    is_private = isinstance(blobs, MemoryBlobStore)
    assert (blobs.fingerprint(b"weights") != digest_of(b"weights")) == is_private


def test_a_file_is_taken_over(blobs: BlobStore) -> None:
    body = os.urandom(12 << 20)  # more than one part of a multipart upload
    path = blobs.incoming("t_1")
    path.write_bytes(body)
    blobs.put_file(path, digest_of(body))
    assert not path.exists()
    assert blobs.get(digest_of(body)) == body


def test_a_blob_that_is_not_there_is_told_as_such(blobs: BlobStore) -> None:
    assert blobs.size(NOWHERE) is None
    with pytest.raises(BlobMissing):
        blobs.get(NOWHERE)
    with pytest.raises(BlobMissing):
        blobs.age_seconds(NOWHERE, now=0.0)
    blobs.remove(NOWHERE)


def test_changed_bytes_are_noticed_and_mended_by_putting_the_blob_again(blobs: BlobStore) -> None:
    if isinstance(blobs, MemoryBlobStore):
        pytest.skip("nobody else can change what lies in this process")
    digest = blobs.put(b"weights")
    damage(blobs, digest, b"weighty")
    with pytest.raises(BlobCorrupt):
        blobs.get(digest)
    blobs.put(b"weights")
    assert blobs.get(digest) == b"weights"


def test_all_blobs_are_listed_in_order_and_nothing_else(blobs: BlobStore) -> None:
    names = [blobs.put(bytes([number])) for number in range(20)]
    blobs.incoming("t_1").write_bytes(b"unfinished")
    assert list(blobs.digests()) == sorted(names)
    blobs.remove(names[0])
    assert list(blobs.digests()) == sorted(names[1:])


def test_putting_one_blob_everywhere_at_once_is_one_blob(blobs: BlobStore) -> None:
    body = os.urandom(100_000)
    assert at_once([partial(blobs.put, body)] * 8) == [digest_of(body)] * 8
    assert list(blobs.digests()) == [digest_of(body)]
    assert blobs.get(digest_of(body)) == body


def test_the_age_of_a_blob_counts_from_the_last_put(blobs: BlobStore) -> None:
    before = time.time()
    digest = blobs.put(b"x")
    age = blobs.age_seconds(digest, now=before + 1000)
    # Stores round to the second; anything near a thousand is right.
    assert 1000 - (time.time() - before) - 2 < age < 1002


def test_bodies_that_stopped_arriving_are_dropped(blobs: BlobStore) -> None:
    old, new = blobs.incoming("old"), blobs.incoming("new")
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1000, 1000))
    assert blobs.drop_incoming(older_than=2000) == 1
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize("place", ["sqlite memory"], indirect=True)
def test_sweeping_removes_old_blobs_that_no_record_names(blobs: BlobStore, place: Place) -> None:
    store, clock = Store(place.database()), ManualClock(time.time())
    orphan, model = blobs.put(b"orphan"), blobs.put(b"model")
    with store.transaction() as records:
        job, round_ = add_job(records)
        records.versions.add(replace(version_of(job.job_id, 2, round_.round_id), digest=model))
    sweeper = Sweeper(store, blobs, clock)
    assert not sweeper.sweep()
    assert set(blobs.digests()) == {orphan, model}
    clock.advance(ORPHAN_SECONDS + 60)
    assert sweeper.sweep()
    assert set(blobs.digests()) == {model}


def test_a_folder_is_the_default(tmp_path: Path) -> None:
    blobs = open_blobs(None, tmp_path / "blobs")
    blobs.put(b"x")
    assert list(LocalBlobStore(tmp_path / "blobs").digests()) == [digest_of(b"x")]


def test_an_object_store_is_opened_by_its_url_and_left_as_it_was(s3_url: str, tmp_path: Path) -> None:
    blobs = open_blobs(s3_url, tmp_path)
    assert list(blobs.digests()) == []
    blobs.put(b"x")
    assert list(open_blobs(s3_url, tmp_path).digests()) == [digest_of(b"x")]
    assert list(open_blobs(f"{s3_url}-other", tmp_path).digests()) == []


@pytest.mark.parametrize("url", ["", "bucket", "s3://", "ftp://bucket/x", "file:///blobs", "memory:///"])
def test_an_address_of_another_kind_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="blob_url"):
        open_blobs(url, tmp_path)


def test_a_bucket_that_is_not_there_stops_the_start(s3_url: str, tmp_path: Path) -> None:
    with pytest.raises(BlobStoreUnusable, match="no-such-bucket"):
        open_blobs(s3_url.replace(BUCKET, "no-such-bucket"), tmp_path)


def test_a_store_that_went_away_is_told_as_such_and_the_body_stays(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fed_compute.storage.object_blobs.MAX_RETRIES", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    blobs = open_object_blobs(s3_url, tmp_path)
    path = blobs.incoming("t_1")
    path.write_bytes(b"x")
    with pytest.raises(BlobStoreUnreachable):
        blobs.put_file(path, digest_of(b"x"))
    assert path.read_bytes() == b"x"
    acts: list[Callable[[], object]] = [partial(blobs.get, NOWHERE), partial(blobs.size, NOWHERE)]
    acts.append(partial(list, blobs.digests()))
    for act in acts:
        with pytest.raises(BlobStoreUnreachable):
            act()
