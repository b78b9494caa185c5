"""The simulated disk forgets what was not synced, and only that. What it forgives, no crash point can find."""

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fed_compute.clock import ManualClock
from tests.fault.simulated.database import Connection
from tests.fault.simulated.disk import Disk
from tests.fault.simulated.faults import Fault, Loss, PowerCut
from tests.fault.simulated.system_calls import SystemCalls


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    (tmp_path / "life").mkdir()
    (tmp_path / "life" / "old").write_bytes(b"old bytes")
    made = Disk(tmp_path / "life", clock=ManualClock(), chance=random.Random(0))
    with monkeypatch.context() as patch:
        SystemCalls(lambda: made).install(patch)
        yield made


def write(path: Path, body: bytes = b"new bytes", *, is_synced: bool) -> None:
    with path.open("wb") as file:
        file.write(body)
        if is_synced:
            os.fsync(file.fileno())


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def left(disk: Disk, loss: Loss = Loss.ALL) -> dict[str, bytes]:
    disk.cut(loss)
    return {path.name: path.read_bytes() for path in disk.after_cut().root.iterdir()}


def test_synced_bytes_under_a_synced_name_survive(disk: Disk) -> None:
    write(disk.root / "new", is_synced=True)
    sync(disk.root)
    assert left(disk) == {"old": b"old bytes", "new": b"new bytes"}


def test_synced_bytes_under_an_unsynced_name_are_gone(disk: Disk) -> None:
    write(disk.root / "new", is_synced=True)
    assert left(disk) == {"old": b"old bytes"}


def test_unsynced_bytes_under_a_synced_name_are_gone(disk: Disk) -> None:
    write(disk.root / "new", is_synced=False)
    sync(disk.root)
    assert left(disk) == {"old": b"old bytes", "new": b""}


def test_an_unsynced_rename_is_undone(disk: Disk) -> None:
    write(disk.root / "new", is_synced=True)
    sync(disk.root)
    (disk.root / "new").replace(disk.root / "old")
    assert left(disk) == {"old": b"old bytes", "new": b"new bytes"}


def test_a_synced_rename_survives(disk: Disk) -> None:
    write(disk.root / "new", is_synced=True)
    (disk.root / "new").replace(disk.root / "old")
    sync(disk.root)
    assert left(disk) == {"old": b"new bytes"}


def test_an_unsynced_removal_is_undone(disk: Disk) -> None:
    (disk.root / "old").unlink()
    assert left(disk) == {"old": b"old bytes"}


def test_the_death_of_the_process_alone_loses_nothing(disk: Disk) -> None:
    write(disk.root / "new", is_synced=False)
    assert left(disk, Loss.NONE) == {"old": b"old bytes", "new": b"new bytes"}


def test_a_sync_that_failed_has_lost_the_bytes_for_good(disk: Disk) -> None:
    write(disk.root / "new", is_synced=False)
    sync(disk.root)
    disk.arm(Fault.ERROR, calls_from_now=1)
    with pytest.raises(OSError, match=r"Input/output|No space"):
        sync(disk.root / "new")
    sync(disk.root / "new")
    assert left(disk) == {"old": b"old bytes", "new": b""}


def test_a_write_that_fails_has_written_half(disk: Disk) -> None:
    disk.arm(Fault.ERROR, calls_from_now=2)  # the first one makes the file
    with pytest.raises(OSError, match=r"Input/output|No space"):
        write(disk.root / "new", b"12345678", is_synced=False)
    assert (disk.root / "new").read_bytes() == b"1234"


@pytest.mark.parametrize("fault", [Fault.DIE_BEFORE, Fault.TORN, Fault.DIE_AFTER])
def test_after_a_power_cut_every_call_fails(disk: Disk, fault: Fault) -> None:
    disk.arm(fault, calls_from_now=1)
    with pytest.raises(PowerCut):
        sync(disk.root)
    with pytest.raises(PowerCut):
        sync(disk.root)


@pytest.mark.parametrize(("synchronous", "survives"), [("FULL", True), ("NORMAL", False)])
def test_a_commit_survives_if_the_database_syncs_it(disk: Disk, synchronous: str, survives: bool) -> None:
    (disk.root / "data").mkdir()
    sync(disk.root)
    with closing(sqlite3.connect(disk.root / "data" / "x.sqlite3", factory=Connection)) as connection:
        connection.disk = disk
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("CREATE TABLE t (n)")
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
        disk.cut(Loss.ALL)
    with closing(sqlite3.connect(disk.after_cut().root / "data" / "x.sqlite3")) as connection:
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        assert tables == (1,)
        assert bool(connection.execute("SELECT n FROM t").fetchall()) is survives
