"""What a volunteer reads about limits, and about what left the machine."""

import json
from pathlib import Path

import pytest

from fed_compute.cli.console import complain
from fed_compute.cli.main import main
from fed_compute.client.departures import DepartureLog, sent_folder
from fed_compute.client.limits import LimitSettings
from fed_compute.clock import ManualClock

COLUMNS = 80


@pytest.fixture(autouse=True)
def _narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A state folder after one registration, two updates, one of them scaled down, and a measurement."""
    clock = ManualClock()
    log = DepartureLog(sent_folder(tmp_path), clock, coordinator="http://c.test", max_bytes=10**6, keep_updates=1)
    log.write_down(
        "registration", b"x" * 90, says={"client_name": "lab-1", "capabilities": {"client_version": "0.1.0"}}
    )
    for number, sent in ((1, 1.0), (2, 2.5)):
        clock.advance(60)
        log.write_down(
            "update", b"x" * 14_000, job="digits", round_id=number, says={"num_samples": 80, "loss": 0.5},
            norm={"trained": 2.5, "sent": sent, "limit": None},
        )  # fmt: skip
    log.write_down("evaluation", b"x" * 50, job="digits", round_id=2, says={"num_samples": 20, "loss": 0.25})
    return tmp_path


def test_everything_that_left_is_listed_with_its_totals_within_80_columns(
    state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sent", "--state-dir", str(state_dir)]) == 0
    printed = capsys.readouterr().out
    table, summary = printed.split("total since ")
    assert max(len(line) for line in table.splitlines()) <= COLUMNS
    words = " ".join(table.split())
    for part in ("registration", "lab-1", "client_version 0.1.0", "14.0 kB", "num_samples 80", "scaled down from 2.5"):
        assert part in words
    assert "1 evaluation (50 B), 1 registration (90 B), 2 updates (28.0 kB)" in summary
    assert str(sent_folder(state_dir) / "updates") in summary


def test_only_the_newest_are_listed_but_all_are_counted(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sent", "--state-dir", str(state_dir), "--last", "1"]) == 0
    printed = capsys.readouterr().out
    table, summary = printed.split("total since ")
    assert "evaluation" in table
    assert "update " not in table
    assert "2 updates" in summary
    assert "3 older entries not shown" in summary


def test_programs_get_every_entry_with_its_digest(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sent", "--state-dir", str(state_dir), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["kind"] for one in document["departures"]] == ["registration", "update", "update", "evaluation"]
    assert all(len(one["sha256"]) == 64 for one in document["departures"])
    assert document["totals"]["update"] == {"count": 2, "bytes": 28_000}
    assert (document["damaged_lines"], document["older_may_be_missing"]) == (0, False)


def test_damage_and_lost_entries_are_said(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = sent_folder(state_dir) / "log.jsonl"
    log.rename(log.with_name("log.1.jsonl"))
    log.write_text("half a li")
    assert main(["sent", "--state-dir", str(state_dir)]) == 0
    printed = capsys.readouterr().out
    assert "1 damaged line" in printed
    assert "may have been dropped" in printed


def test_the_state_folder_is_the_one_that_join_would_use(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLIENT_STATE_DIR", str(state_dir))
    assert main(["sent"]) == 0
    assert "2 updates" in capsys.readouterr().out


def test_a_machine_that_sent_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sent", "--state-dir", str(tmp_path)]) == 0
    assert "nothing was sent yet" in capsys.readouterr().out


def test_every_limit_is_shown_with_its_value_and_meaning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLIENT_HOURS", "22-6")
    assert main(["limits"]) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1] for line in printed.splitlines() if line.startswith("CLIENT_")}
    assert set(rows) == {name.upper() for name in LimitSettings.model_fields}
    assert (rows["CLIENT_HOURS"], rows["CLIENT_MIN_COHORT"], rows["CLIENT_AC_POWER_ONLY"]) == ("22-6", "–", "false")
    assert main(["limits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["CLIENT_HOURS"] == "22-6"


def test_a_limit_that_cannot_be_understood_stops_join(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt limit must not become no limit."""
    assert main(["join", "http://127.0.0.1:9", "--hours", "late"]) == 2
    assert "CLIENT_HOURS" in capsys.readouterr().err


def test_an_error_s_words_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    complain("the coordinator said \x1b[2J\x1b]0;owned\x07")
    assert all(line.isprintable() for line in capsys.readouterr().err.splitlines())
