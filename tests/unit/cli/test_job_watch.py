"""What one sees of a job: a picture that fits its terminal, and curves that say what they should."""

import io
from typing import Any

import pytest
from rich.console import Console

from fed_compute.cli.job_watch import picture, sparkline

NOW = 1_000.0


def a_round(number: int, state: str = "CLOSED", **fields: Any) -> dict[str, Any]:
    known = {"accuracy": 0.5 + number / 100, "evaluation_loss": 2.0 / number, "train_loss": 2.5 / number}
    measured = known if state == "CLOSED" else dict.fromkeys(known)
    return {
        "round_id": number + 10, "number": number, "state": state, "updates_accepted": 3, "updates_late": 1,
        "updates_refused": 0, "duration_seconds": 12.3 if state == "CLOSED" else None, "reason": None,
        "result_version": None, **measured, **fields,
    }  # fmt: skip


def a_job(*rounds: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "name": "digits", "state": "running", "model": "simple_mlp", "num_parameters": 3466, "latest_version": "v21",
        "rounds_closed": len(rounds) - 1, "rounds_total": 30, "rounds": list(rounds), "current_round_id": 31, **fields,
    }  # fmt: skip


def current(**fields: Any) -> dict[str, Any]:
    return {
        "round_id": 31, "state": "COLLECTING", "assigned_clients": ["lab-1", "lab-2"], "updates_received": ["lab-2"],
        "total_clients": 2, "total_updates": 1, "target_updates": 3, "deadline": NOW + 125, **fields,
    }  # fmt: skip


LONG = a_job(*(a_round(number) for number in range(1, 21)), a_round(21, "COLLECTING"))


def drawn(job: dict[str, Any], round_: dict[str, Any] | None, *, width: int = 100, height: int = 30) -> str:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False)
    console.print(picture(job, round_, url="http://coordinator:8000", now=NOW, width=width, height=height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_picture_says_where_the_job_and_its_round_stand() -> None:
    told = drawn(LONG, current())
    for words in ("digits  running", "20 of 30", "● open ─ ● collecting ─ ○ aggregating ─ ○ closed"):
        assert words in told
    for words in ("updates 1 of 3, 2 min left", "lab-1 …", "lab-2 ✓", "accuracy", "0.7", "v21"):
        assert words in told


@pytest.mark.parametrize(("width", "height"), [(100, 30), (80, 24), (60, 18), (200, 60)])
def test_the_picture_fits_its_terminal(width: int, height: int) -> None:
    lines = drawn(LONG, current(), width=width, height=height).splitlines()
    assert len(lines) < height
    assert max(len(line) for line in lines) <= width


def test_a_crowd_of_clients_takes_one_line() -> None:
    names = [f"client-{number}" for number in range(500)]
    told = drawn(LONG, current(assigned_clients=names, total_clients=500))
    (line,) = [line for line in told.splitlines() if line.startswith("clients")]
    assert "client-0" in line


def test_a_paused_round_shows_that_its_time_stands_still() -> None:
    assert "its time stands still" in drawn({**LONG, "state": "paused"}, current(deadline=None))


def test_a_job_that_has_just_begun_has_no_curves_and_one_that_ended_no_round() -> None:
    assert "no curves yet" in drawn(a_job(a_round(1, "OPEN")), current(state="OPEN", assigned_clients=[]))
    assert "clients" not in drawn({**LONG, "state": "stopped"}, None)


def test_a_sparkline_runs_from_its_least_to_its_greatest_value() -> None:
    assert sparkline([0.0, 1.0, 2.0, 7.0], num_cells=10) == "▁▂▃█"
    assert sparkline([9.0, 0.0, 7.0], num_cells=2) == "▁█"
    assert sparkline([3.0, 3.0], num_cells=9) == "▅▅"
