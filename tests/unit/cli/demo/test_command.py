"""What `fed-compute demo` refuses before it starts anything."""

import sys
from pathlib import Path

import pytest

from fed_compute.cli.main import main


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work where nothing is."""
    monkeypatch.chdir(tmp_path)


def refusal(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Run the command, which must be refused in one line with exit code 2, and return that line."""
    assert main(["demo", *options]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--clients", "0"], "--clients is 0, wanted a whole number from 1 to 50"),
        (["--rounds", "0"], "--rounds is 0, wanted a whole number from 1 to 1000"),
        (["--drop", "1.5"], "--drop is 1.5, wanted a probability from 0 to 1"),
        (["--seed", "-1"], "--seed is -1, wanted a whole number"),
    ],
)
def test_numbers_that_make_no_sense_are_one_line(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refusal(capsys, *options)
    assert list(Path().iterdir()) == []


def test_a_folder_with_something_in_it_is_not_touched(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Path("mine", "thesis.txt").write_text("years of work")
    assert "is not empty" in refusal(capsys, "--data-dir", "mine")
    assert [file.name for file in Path("mine").iterdir()] == ["thesis.txt"]


def test_a_missing_part_is_named_before_anything_is_started(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    line = refusal(capsys)
    assert "torch is not there" in line
    assert "pip install 'fed-compute[demo]'" in line
    assert list(Path().iterdir()) == []
