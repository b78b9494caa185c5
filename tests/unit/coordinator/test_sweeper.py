"""What nobody refers to goes, after a day; everything else stays."""

import os
import time
from pathlib import Path

import pytest

from fed_compute.clock import ManualClock
from fed_compute.coordinator.sweeper import ORPHAN_SECONDS, Sweeper, referenced
from fed_compute.errors import UpdateConflict
from fed_compute.ids import Digest
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job

DAY = ORPHAN_SECONDS


def sweeper_of(stand: Stand) -> Sweeper:
    """Return a sweeper whose day is that of the file system."""
    return Sweeper(stand.core.store, stand.core.blobs, ManualClock(start=time.time()))


def path_of(stand: Stand, digest: str) -> Path:
    """Return where a blob lies."""
    return stand.core.data_dir.blobs / digest[:2] / digest


def make_old(path: Path, *, seconds: float = DAY + 60) -> None:
    """Let a file be this old."""
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_an_old_blob_that_nothing_names_is_removed(stand: Stand) -> None:
    orphan = stand.core.blobs.put(b"orphan")
    make_old(path_of(stand, orphan))
    assert sweeper_of(stand).sweep()
    assert orphan not in stand.blobs()


def test_a_young_blob_that_nothing_names_stays(stand: Stand) -> None:
    """Its row may be on the way."""
    orphan = stand.core.blobs.put(b"orphan")
    make_old(path_of(stand, orphan), seconds=DAY - 600)
    assert not sweeper_of(stand).sweep()
    assert orphan in stand.blobs()


def test_a_blob_that_was_put_again_is_young(stand: Stand) -> None:
    orphan = stand.core.blobs.put(b"orphan")
    make_old(path_of(stand, orphan))
    stand.core.blobs.put(b"orphan")
    assert not sweeper_of(stand).sweep()
    assert orphan in stand.blobs()


def test_everything_that_a_record_names_stays_however_old(open_stand: OpenStand) -> None:
    """Models, optimiser states, counted updates, updates of rounds that were given up, updates not yet counted."""
    stand = open_stand()
    stand.create(tiny_job(min_updates=2, sections={"aggregation": {"server_optimizer": "adam"}}))
    stand.join("anna", "bob")
    for name in ("anna", "bob"):
        stand.report(name, 0.1)
    stand.work()
    stand.report("anna", 0.2)
    stand.clock.advance(101)
    stand.work()
    stand.report("bob", 0.3)
    blobs = stand.blobs()
    assert len(blobs) == 1 + 1 + 1 + 4  # v1, v2, its optimiser state, updates
    for digest in blobs:
        make_old(path_of(stand, digest))
    assert not sweeper_of(stand).sweep()
    assert stand.blobs() == blobs
    assert stand.breaches() == ()


def test_what_is_referenced_is_what_lies_there(stand: Stand) -> None:
    stand.join("anna", "bob")
    for name in ("anna", "bob"):
        stand.report(name)
    stand.work()
    with stand.core.store.snapshot() as records:
        assert referenced(records) == stand.blobs()


def test_a_body_that_stopped_arriving_a_day_ago_is_removed_and_a_young_one_stays(stand: Stand) -> None:
    old, young = stand.core.blobs.incoming("old"), stand.core.blobs.incoming("young")
    for path in (old, young):
        path.write_bytes(b"half")
    make_old(old)
    assert sweeper_of(stand).sweep()
    assert (old.exists(), young.exists()) == (False, True)


def test_the_sweeper_looks_once_an_hour(stand: Stand) -> None:
    clock = ManualClock(start=time.time())
    sweeper = Sweeper(stand.core.store, stand.core.blobs, clock)
    sweeper.sweep()
    orphan = stand.core.blobs.put(b"orphan")
    make_old(path_of(stand, orphan), seconds=2 * DAY)
    clock.advance(3599)
    assert not sweeper.sweep()
    clock.advance(1)
    assert sweeper.sweep()
    assert orphan not in stand.blobs()


def test_an_update_that_was_swept_as_an_orphan_can_be_sent_again(stand: Stand) -> None:
    """The coordinator died between blob and commit; the client sends again when it wakes up days later."""
    stand.join("anna", "bob")
    assignment = stand.lease("anna", heartbeats=False)
    body = body_for(assignment)
    digest = stand.core.blobs.put(body)
    make_old(path_of(stand, digest))
    sweeper_of(stand).sweep()
    assert stand.send("anna", assignment, body).update.digest == digest
    assert digest in stand.blobs()


def test_a_conflicting_update_leaves_nothing_to_sweep(stand: Stand) -> None:
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    stand.send("anna", assignment, body_for(assignment, 0.1))
    with pytest.raises(UpdateConflict):
        stand.send("anna", assignment, body_for(assignment, 0.2))
    with stand.core.store.snapshot() as records:
        assert {Digest(digest) for digest in referenced(records)} == stand.blobs()
    assert list((stand.core.data_dir.blobs / "incoming").iterdir()) == []
