"""Where a demonstration keeps its files."""

from pathlib import Path

import pytest

from fed_compute.cli.demo.places import prepare
from fed_compute.errors import DataDirTaken, SettingInvalid


def test_each_run_gets_a_fresh_folder(tmp_path: Path) -> None:
    """Running it twice in a row must work, and must not touch the first run."""
    report = tmp_path / "report"
    assert [prepare(report, None).data_dir for _ in range(2)] == [report / "run-1", report / "run-2"]
    (report / "run-10").mkdir()
    (report / "run-mine").mkdir()
    assert prepare(report, None).data_dir == report / "run-11"


def test_a_given_folder_may_exist_if_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    places = prepare(tmp_path / "report", tmp_path / "data")
    assert places.data_dir == tmp_path / "data"
    assert places.log_of("client-1").parent.is_dir()


def test_a_run_that_is_there_is_left_alone_and_the_way_out_is_told(tmp_path: Path) -> None:
    (tmp_path / "coordinator.sqlite3").touch()
    with pytest.raises(DataDirTaken) as refused:
        prepare(tmp_path / "report", tmp_path)
    assert "holds a training run already" in refused.value.message
    assert f"serve --data-dir {tmp_path}" in refused.value.message


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "report").touch()
    with pytest.raises(SettingInvalid, match=r"--report-dir: .*report cannot be written"):
        prepare(tmp_path / "report", None)
