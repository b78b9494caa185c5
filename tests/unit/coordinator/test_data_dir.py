"""The folder of one coordinator: claimed, private, kept."""

import stat
from pathlib import Path

import pytest

from fed_compute.coordinator.data_dir import DataDir, pepper_from, write_private
from fed_compute.errors import DataDirInUse, DataDirUnusable, SettingInvalid


def mode_of(path: Path) -> int:
    """Return the rights of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_is_made_with_its_parents_when_it_is_claimed(tmp_path: Path) -> None:
    folder = DataDir(tmp_path / "a" / "b")
    folder.claim()
    assert (tmp_path / "a" / "b").is_dir()
    folder.release()


def test_a_folder_belongs_to_one_coordinator_until_it_is_given_back(tmp_path: Path) -> None:
    first, second = DataDir(tmp_path), DataDir(tmp_path)
    first.claim()
    with pytest.raises(DataDirInUse, match=r"choose another --data-dir"):
        second.claim()
    first.release()
    second.claim()
    second.release()


def test_a_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here already")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataDirUnusable, match="--data-dir"):
            DataDir(path).claim()


def test_the_pepper_is_drawn_once_and_kept_private(tmp_path: Path) -> None:
    pepper = DataDir(tmp_path).pepper()
    assert len(pepper) == 32
    assert DataDir(tmp_path).pepper() == pepper
    assert mode_of(tmp_path / "pepper") == 0o600


def test_every_folder_has_a_pepper_of_its_own(tmp_path: Path) -> None:
    folders = [DataDir(tmp_path / name) for name in "ab"]
    for folder in folders:
        folder.path.mkdir()
    assert folders[0].pepper() != folders[1].pepper()


@pytest.mark.parametrize("text", ["", "not hex", "ab" * 31, "ab" * 32 + "g"])
def test_a_damaged_pepper_stops_the_start_and_is_not_repeated(tmp_path: Path, text: str) -> None:
    """A new one would make every key worthless without a word."""
    (tmp_path / "pepper").write_text(text)
    with pytest.raises(SettingInvalid, match="64 hexadecimal digits") as refusal:
        DataDir(tmp_path).pepper()
    assert not text or text not in refusal.value.message
    assert (tmp_path / "pepper").read_text() == text


def test_a_pepper_may_have_space_around_it_and_be_longer() -> None:
    assert pepper_from(" " + "ab" * 40 + "\n") == b"\xab" * 40


def test_a_private_file_is_written_whole_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "operator.key"
    for text in ("first\n", "second\n"):
        write_private(path, text)
        assert (path.read_text(), mode_of(path)) == (text, 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["operator.key"]


def test_a_file_that_others_could_read_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    path = tmp_path / "operator.key"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert mode_of(path) == 0o600


def test_everything_lies_in_the_folder(tmp_path: Path) -> None:
    folder = DataDir(tmp_path)
    assert folder.database_url == f"sqlite:///{tmp_path / 'coordinator.sqlite3'}"
    assert {folder.blobs.parent, folder.operator_key.parent, folder.pepper_file.parent} == {tmp_path}
