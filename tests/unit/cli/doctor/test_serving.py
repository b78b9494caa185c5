"""What the doctor says of a coordinator's records."""

import sqlite3
from pathlib import Path

import pytest

from fed_compute.cli.doctor import serving
from fed_compute.cli.doctor.judgements import Finding
from fed_compute.clock import ManualClock
from fed_compute.coordinator.data_dir import DATABASE
from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import open_coordinator
from fed_compute.protocol.job import parse_job_text


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder with one job and no coordinator at work."""
    coordinator = open_coordinator(load_settings(data_dir=tmp_path / "data"))
    coordinator.jobs.create(parse_job_text(""))
    coordinator.close()
    return tmp_path / "data"


def change(data_dir: Path, statement: str) -> None:
    """Change the records behind the product's back."""
    connection = sqlite3.connect(data_dir / DATABASE)
    with connection:
        connection.execute(statement)
    connection.close()


def findings(data_dir: Path) -> dict[str, Finding]:
    """Return what is found, by check; nothing of the machine's own state decides these tests."""
    found = serving.look(data_dir=data_dir, host=None, port=0, clock=ManualClock())
    return {one.check: one for one in found if one.check in ("lock", "database", "records", "data folder")}


def test_sound_records_are_well(data_dir: Path) -> None:
    found = findings(data_dir)
    assert {name: one.level.value for name, one in found.items()} == {
        "data folder": "ok",
        "lock": "ok",
        "database": "ok",
        "records": "ok",
    }


@pytest.mark.parametrize(
    ("version", "level", "words"), [("9999", "bad", "a newer version made it"), ("0001", "warn", "this version has")]
)
def test_records_of_another_version_are_named(data_dir: Path, version: str, level: str, words: str) -> None:
    change(data_dir, f"UPDATE alembic_version SET version_num = '{version}'")  # noqa: S608 - our own two words
    found = findings(data_dir)
    assert found["database"].level == level
    assert words in found["database"].found
    assert version in found["database"].found
    assert "records" not in found, "nothing can be said of them"


def test_a_broken_promise_is_told(data_dir: Path) -> None:
    change(data_dir, "UPDATE rounds SET state = 'CLOSED'")
    found = findings(data_dir)
    assert found["records"].level == "bad"
    assert "fed-compute verify" in found["records"].advice


def test_a_database_that_does_not_open_is_told(data_dir: Path) -> None:
    for file in data_dir.glob(f"{DATABASE}*"):
        file.write_bytes(b"no database at all " * 100)
    assert findings(data_dir)["database"].level == "bad"
