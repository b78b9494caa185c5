"""A commit counts only if the disk below can still take a change."""

import errno
import os
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from fed_compute.errors import DiskFailed, DiskFull
from fed_compute.storage.sql.database import open_database
from fed_compute.storage.sql.disk_probe import DiskProbe
from tests.fault.campaign.disk import disk, why_no_disk


def test_a_disk_that_takes_changes_is_alive_each_time(tmp_path: Path) -> None:
    probe = DiskProbe(tmp_path / "records.sqlite3")
    for _ in range(3):
        probe.require_alive()


@pytest.mark.parametrize("fault", ["fail", "turn_read_only"])
def test_a_disk_that_gave_up_is_found_out(tmp_path: Path, fault: str) -> None:
    if (reason := why_no_disk()) is not None:
        pytest.skip(reason)
    with disk(tmp_path) as small:
        probe = DiskProbe(small.folder / "records.sqlite3")
        probe.require_alive()
        getattr(small, fault)()
        with pytest.raises(DiskFailed):
            probe.require_alive()


def test_a_commit_on_a_disk_that_takes_no_change_afterwards_is_told_as_failed_and_not_read(tmp_path: Path) -> None:
    with closing(open_database(f"sqlite:///{tmp_path / 'records.sqlite3'}")) as database:
        database.migrate()
        (tmp_path / "records.sqlite3-probe").unlink()
        (tmp_path / "records.sqlite3-probe").mkdir()
        with pytest.raises(DiskFailed), database.write() as connection:
            connection.execute(text("CREATE TABLE promises (id INTEGER)"))
        with pytest.raises(DiskFailed), database.read():
            raise AssertionError("what may be lost was read")
        assert database.load.failed.read() == {"disk_failed": 2}
        (tmp_path / "records.sqlite3-probe").rmdir()
        with database.read() as connection:
            assert connection.execute(text("SELECT count(*) FROM promises")).scalar() == 0


def test_what_lies_on_a_disk_that_is_merely_full_is_read_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_handle: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with closing(open_database(f"sqlite:///{tmp_path / 'records.sqlite3'}")) as database:
        database.migrate()
        monkeypatch.setattr(os, "ftruncate", refuse)
        with pytest.raises(DiskFull), database.write() as connection:
            connection.execute(text("CREATE TABLE promises (id INTEGER)"))
        with database.read() as connection:
            assert connection.execute(text("SELECT count(*) FROM promises")).scalar() == 0
