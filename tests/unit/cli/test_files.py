"""Files of commands are there whole or not at all, and nothing is written over unawares."""

from pathlib import Path

import pytest

from fed_compute.cli.files import new_path, require_new
from fed_compute.errors import SettingInvalid


def content(path: Path) -> dict[str, str]:
    return {str(file.relative_to(path)): file.read_text() for file in path.rglob("*") if file.is_file()}


def write_half(path: Path, error: Exception) -> None:
    with new_path(path) as new:
        new.mkdir()
        (new / "half").write_text("half")
        raise error


def test_what_is_there_already_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("keep")
    with pytest.raises(SettingInvalid, match="--force"):
        require_new(tmp_path / "mine", force=False)
    require_new(tmp_path / "mine", force=True)
    require_new(tmp_path / "new", force=False)
    with pytest.raises(SettingInvalid, match="a folder that does not exist"):
        require_new(tmp_path / "no" / "new", force=True)


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    with new_path(tmp_path / "file") as new:
        new.write_text("whole")
        assert not (tmp_path / "file").exists()
    assert content(tmp_path) == {"file": "whole"}


def test_a_folder_takes_the_place_of_another_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    with new_path(tmp_path / "out") as new:
        new.mkdir()
        (new / "new").write_text("new")
        assert content(tmp_path / "out") == {"old": "old"}
    assert content(tmp_path) == {"out/new": "new"}


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    real = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if path.name == ".out.new":
            raise OSError(5, "Input/output error")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(SettingInvalid, match="Input/output error"), new_path(tmp_path / "out") as new:
        new.mkdir()
    assert content(tmp_path) == {"out/old": "old"}


@pytest.mark.parametrize("is_folder", [False, True])
def test_when_writing_fails_what_was_there_is_untouched_and_nothing_is_left_over(
    tmp_path: Path, is_folder: bool
) -> None:
    target = tmp_path / "out"
    if is_folder:
        target.mkdir()
        (target / "old").write_text("old")
    else:
        target.write_text("old")
    before = content(tmp_path)
    with pytest.raises(ZeroDivisionError):
        write_half(target, ZeroDivisionError())
    assert content(tmp_path) == before


def test_a_disk_that_does_not_take_it_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="cannot be written: No space left"):
        write_half(tmp_path / "file", OSError(28, "No space left on device"))
    assert list(tmp_path.iterdir()) == []
