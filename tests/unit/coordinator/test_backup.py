"""Backups: made while the coordinator works, whole or not at all, and never put in place unless every promise holds."""

import io
import shutil
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fed_compute.coordinator.backup import restore_backup, write_backup
from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import open_coordinator
from fed_compute.errors import BackupUnusable, BlobCorrupt, BlobMissing, DataDirTaken, DataDirUnusable
from fed_compute.rounds.records import RoundState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, tiny_job

NOW = 1_800_000_000.0


def play(stand: Stand) -> None:
    """Let two rounds close and a third get an update."""
    stand.create(tiny_job(min_updates=2, sections={"aggregation": {"server_optimizer": "adam"}}))
    stand.join("anna", "bob")
    for step in (1, 2):
        stand.report("anna", 0.1 * step)
        stand.report("bob", 0.2 * step)
        stand.work()
    stand.report("anna", 0.7)


@pytest.fixture
def busy(open_stand: OpenStand) -> Stand:
    """A coordinator on disk that is at work."""
    stand = open_stand("data", database_url=None)
    play(stand)
    return stand


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of such a coordinator."""
    folder = tmp_path_factory.mktemp("made")
    stand = Stand(folder / "data")
    play(stand)
    write_backup(folder / "data", folder / "backup.tar", now=NOW)
    stand.close()
    return folder / "backup.tar"


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copy(made, tmp_path / "backup.tar"))


def left_beside(path: Path) -> list[str]:
    """Return what lies in a folder beside the data and the backup."""
    return sorted(item.name for item in path.iterdir() if item.name not in ("data", "backup.tar"))


def test_a_working_coordinator_comes_back_with_all_that_it_had_and_goes_on(busy: Stand, tmp_path: Path) -> None:
    archive = tmp_path / "backup.tar"
    write_backup(busy.core.data_dir.path, archive, now=NOW)
    target, told = tmp_path / "restored" / "data", list[tuple[int, int]]()
    report = restore_backup(archive, target, on_progress=lambda done, total: told.append((done, total)))
    assert report.breaches == ()
    assert told[-1][0] >= told[-1][1] > 0
    key = busy.core.data_dir.operator_key.read_text().strip()
    versions = [version.digest for version in busy.versions()]
    with_digest = busy.core.auth.require_operator(key)
    restored = open_coordinator(load_settings(data_dir=target), clock=busy.clock)
    try:
        assert restored.auth.require_operator(key) == with_digest
        with restored.store.snapshot() as records:
            assert [version.digest for version in records.versions.of_job(restored.jobs.default().job_id)] == versions
            (live,) = records.rounds.in_states([RoundState.COLLECTING])
            assert records.updates.count(live.round_id) == 1
    finally:
        restored.close()


def test_only_its_owner_can_read_it(archive: Path) -> None:
    """It holds keys."""
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600


def test_a_backup_made_while_rounds_go_on_is_of_one_moment(busy: Stand, tmp_path: Path) -> None:
    done = threading.Event()

    def go_on() -> None:
        for step in range(6):
            busy.report("bob", 0.3 + step)
            busy.work()
            busy.report("anna", 0.7 + step)
        done.set()

    thread = threading.Thread(target=go_on)
    thread.start()
    made = 0
    while not done.is_set() or made == 0:
        made += 1
        write_backup(busy.core.data_dir.path, tmp_path / f"{made}.tar", now=NOW)
    thread.join()
    for number in {1, (made + 1) // 2, made}:
        assert restore_backup(tmp_path / f"{number}.tar", tmp_path / f"restored-{number}").breaches == ()


def test_nothing_is_overwritten(busy: Stand, archive: Path, tmp_path: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(BackupUnusable, match="exists already"):
        write_backup(busy.core.data_dir.path, archive, now=NOW)
    with pytest.raises(DataDirTaken, match="holds a training run"):
        restore_backup(archive, busy.core.data_dir.path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    with pytest.raises(DataDirTaken, match="not empty"):
        restore_backup(archive, tmp_path / "mine")
    assert archive.read_bytes() == before


def test_an_empty_folder_may_be_filled(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert restore_backup(archive, tmp_path / "new").breaches == ()
    assert (tmp_path / "new" / "operator.key").exists()


def test_without_a_coordinator_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with pytest.raises(DataDirUnusable, match="no coordinator data"):
        write_backup(tmp_path, tmp_path / "backup.tar", now=NOW)
    assert left_beside(tmp_path) == []


def test_a_damaged_folder_gives_no_backup(busy: Stand, tmp_path: Path) -> None:
    path = busy.core.data_dir.blobs / busy.updates()[0].digest[:2] / busy.updates()[0].digest
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(BlobCorrupt):
        write_backup(busy.core.data_dir.path, tmp_path / "backup.tar", now=NOW)
    path.unlink()
    with pytest.raises(BlobMissing):
        write_backup(busy.core.data_dir.path, tmp_path / "backup.tar", now=NOW)
    assert left_beside(tmp_path) == []


def add(name: str, body: bytes = b"x", **changes: object) -> Callable[[Path], None]:
    """Return a change that adds a member to a backup."""

    def change(path: Path) -> None:
        with tarfile.open(path, "a:") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(body)
            for field, value in changes.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(body))

    return change


def cut(share: float) -> Callable[[Path], None]:
    """Return a change that cuts a backup short."""
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)]) and None


def middle_of_last(path: Path) -> int:
    """Return where the middle of the last blob lies in a backup."""
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    return last.offset_data + last.size // 2


def flip(path: Path) -> None:
    """Change one byte of the last blob."""
    body = bytearray(path.read_bytes())
    body[middle_of_last(path)] ^= 1
    path.write_bytes(body)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut at once": lambda path: path.write_bytes(b""),
    "cut in the header": cut(0.001),
    "cut in the records": cut(0.3),
    "cut in the last blob": lambda path: path.write_bytes(path.read_bytes()[: middle_of_last(path)]),
    "another program's file": lambda path: path.write_bytes(b"PK\3\4" + bytes(5000)),
    "a flipped byte": flip,
    "a way out": add("../evil"),
    "an absolute path": add("/etc/evil"),
    "a strange place": add("blobs/evil"),
    "a blob under another's folder": add(f"blobs/ab/{'cd' * 32}"),
    "a blob of another name": add(f"blobs/ab/{'ab' * 32}"),
    "a link": add(f"blobs/ab/{'ab' * 32}", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "a device": add("pepper.previous", b"", type=tarfile.CHRTYPE),
    "records twice": add("coordinator.sqlite3"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_forged_backup_is_refused_and_leaves_nothing(archive: Path, tmp_path: Path, damage: str) -> None:
    DAMAGES[damage](archive)
    with pytest.raises(BackupUnusable):
        restore_backup(archive, tmp_path / "restored")
    assert left_beside(tmp_path) == []


def test_what_is_no_backup_of_ours_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(BackupUnusable, match="cannot be read"):
        restore_backup(tmp_path / "nowhere.tar", tmp_path / "restored")
    with tarfile.open(tmp_path / "other.tar", "w:") as tar:
        member = tarfile.TarInfo("backup.json")
        member.size = 22
        tar.addfile(member, io.BytesIO(b'{"format": "other/999"}'[:22]))
    with pytest.raises(BackupUnusable, match=r"does not begin with|other/999"):
        restore_backup(tmp_path / "other.tar", tmp_path / "restored")


def test_a_backup_whose_promises_do_not_hold_is_not_put_in_place(archive: Path, tmp_path: Path) -> None:
    """It lacks a blob: whole as a tar, broken as a training."""
    (tmp_path / "less.tar").touch(0o600)
    with tarfile.open(archive) as tar, tarfile.open(tmp_path / "less.tar", "w:") as less:
        for member in tar.getmembers()[:-1]:
            less.addfile(member, tar.extractfile(member))
    report = restore_backup(tmp_path / "less.tar", tmp_path / "restored")
    assert report.breaches
    assert not (tmp_path / "restored").exists()
