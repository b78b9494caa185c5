"""The picture that a client's events draw of it, and its file."""

import os
import stat
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from fed_compute.client.observer import Observers
from fed_compute.client.status import Status, Task, after
from fed_compute.client.status_board import SHORTEST_SECONDS, StatusBoard, read_status
from fed_compute.clock import ManualClock
from tests.unit.client.fake_coordinator import FakeCoordinator
from tests.unit.client.volunteer import Volunteer, Watcher, volunteer_at

DAY = date(2026, 3, 2)
BLANK = Status("http://c.test", 1, "run", started_at=0.0, updated_at=0.0, since=0.0)
RECEIVED = {"task_id": "t", "task": "train", "job": "digits", "round_id": 3, "model_version": "v3", "seconds_left": 9}
TRAINED = {"task_id": "t", "num_samples": 1, "loss": 1.0, "seconds": 90.0, "bytes": 500}


def drawn(*events: tuple[str, dict[str, Any]], status: Status = BLANK, today: date = DAY) -> Status:
    for number, (name, fields) in enumerate(events, start=1):
        status = after(status, name, fields, now=float(number), today=today)
    return status


def test_a_task_is_followed_from_its_lease_to_its_answer() -> None:
    signed_in = ("signed_in", {"client_id": "me"})
    received, progress = ("task_received", RECEIVED), ("progress", {"task_id": "t", "fraction": 0.5})
    training = drawn(signed_in, received, progress)
    assert (training.client_id, training.doing, training.since) == ("me", "training", 2.0)
    assert training.task == Task("t", "digits", 3, "v3", fraction=0.5)
    sending = drawn(("trained", TRAINED), ("uploading", {"task_id": "t", "sent": 200}), status=training)
    assert (sending.doing, sending.since) == ("sending", 1.0)
    assert sending.task == Task("t", "digits", 3, "v3", fraction=1.0, num_bytes=500, sent=200)
    answered = drawn(("update_accepted", {}), status=sending)
    assert (answered.doing, answered.task) == ("waiting", None)
    assert (answered.today.accepted, answered.today.training_seconds) == (1, 90.0)


@pytest.mark.parametrize(
    ("name", "fields", "doing", "counted"),
    [
        ("evaluated", {}, "waiting", "measured"),
        ("audited", {}, "waiting", "measured"),
        ("task_over", {"why": "late"}, "waiting", "over"),
        ("update_refused", {"why": "no"}, "waiting", "refused"),
        ("training_failed", {"why": "no"}, "waiting", "failed"),
        ("measuring_failed", {"why": "no"}, "waiting", "failed"),
        ("task_released", {}, "waiting", "given_back"),
        ("resting", {"limit": "pause", "why": "you paused it"}, "paused", None),
        ("resting", {"limit": "CLIENT_HOURS", "why": "night"}, "resting", None),
        ("paused", {"task_id": "t", "why": "you paused it"}, "paused", None),
        ("idle", {"why": "waiting"}, "waiting", None),
        ("stopped", {}, "ended", None),
        ("finished", {}, "ended", None),
    ],
)
def test_each_event_says_what_the_client_does_and_what_is_counted(
    name: str, fields: dict[str, Any], doing: str, counted: str | None
) -> None:
    status = drawn(("task_received", RECEIVED), (name, fields))
    assert status.doing == doing
    counts = {field: value for field, value in vars_of(status.today).items() if value}
    assert counts == ({} if counted is None else {counted: 1})
    if doing in ("paused", "resting"):
        assert status.why == fields["why"]


def vars_of(today: Any) -> dict[str, Any]:
    return {name: getattr(today, name) for name in today.__slots__ if name != "day"}


def test_a_coordinator_that_cannot_be_reached_is_told_until_something_else_happens() -> None:
    away = drawn(("task_received", RECEIVED), ("waiting", {"code": "x", "why": "no answer", "seconds": 1.0}))
    assert (away.doing, away.trouble) == ("training", "no answer")
    assert drawn(("progress", {"task_id": "t", "fraction": 0.1}), status=away).trouble is None


def test_the_counts_begin_anew_with_each_day() -> None:
    first = drawn(("update_accepted", {}), ("update_accepted", {}))
    assert first.today.accepted == 2
    second = drawn(("evaluated", {}), status=first, today=date(2026, 3, 3))
    assert (second.today.day, second.today.accepted, second.today.measured) == ("2026-03-03", 0, 1)


# --- its file ----------------------------------------------------------------------------------


def board_in(folder: Path, clock: ManualClock, run: str = "run") -> StatusBoard:
    board = StatusBoard(folder / "status.json", clock, coordinator="http://c.test", run=run)
    board.begin()
    return board


def test_whoever_asks_reads_the_newest_picture(tmp_path: Path) -> None:
    board = board_in(tmp_path, ManualClock())
    found = read_status(tmp_path / "status.json")
    assert found is not None
    assert (found.doing, found.pid, found.run) == ("starting", os.getpid(), "run")
    board.event("signed_in", client_id="me")
    found = read_status(tmp_path / "status.json")
    assert found is not None
    assert (found.doing, found.client_id) == ("waiting", "me")
    assert stat.S_IMODE((tmp_path / "status.json").stat().st_mode) == 0o600


def test_progress_is_written_once_a_second_at_most(tmp_path: Path) -> None:
    clock, file = ManualClock(), tmp_path / "status.json"
    board = board_in(tmp_path, clock)
    board.event("task_received", **RECEIVED)
    written = file.read_bytes()
    board.event("progress", task_id="t", fraction=0.25)
    assert file.read_bytes() == written
    clock.advance(SHORTEST_SECONDS)
    board.event("progress", task_id="t", fraction=0.5)
    assert file.read_bytes() != written


def test_the_counts_of_today_go_on_after_a_restart(tmp_path: Path) -> None:
    clock = ManualClock(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp())
    board_in(tmp_path, clock).event("update_accepted")
    board_in(tmp_path, clock, "the next").event("update_accepted")
    found = read_status(tmp_path / "status.json")
    assert found is not None
    assert (found.run, found.today.accepted) == ("the next", 2)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"coordinator": 3}'])
def test_a_picture_that_cannot_be_read_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "status.json").write_bytes(content)
    assert read_status(tmp_path / "status.json") is None
    board_in(tmp_path, ManualClock())
    assert read_status(tmp_path / "status.json") is not None


def test_a_disk_that_is_full_does_not_disturb_the_client(tmp_path: Path) -> None:
    board = StatusBoard(tmp_path / "gone" / "status.json", ManualClock(), coordinator="http://c.test", run="run")
    board.begin()
    board.event("signed_in", client_id="me")


def test_every_event_of_a_real_client_can_be_drawn(tmp_path: Path) -> None:
    """What a client tells and what the picture reads must be the same fields."""
    volunteer: Volunteer = volunteer_at(FakeCoordinator(kinds=("train", "evaluate"), tasks_to_give=4), tmp_path)
    seen: set[str] = set()
    volunteer.watcher.on = lambda name, fields: seen.add(name)
    volunteer.run(until_finished=True)
    (file,) = tmp_path.glob("clients/*/status.json")
    found = read_status(file)
    assert found is not None
    assert seen >= {"signed_in", "task_received", "progress", "trained", "uploading", "update_accepted", "evaluated"}
    assert (found.today.accepted, found.today.measured, found.task) == (2, 2, None)


def test_every_observer_hears_every_event() -> None:
    first, second = Watcher(), Watcher()
    Observers(first, second).event("idle", why="x")
    assert first.events == second.events == [("idle", {"why": "x"})]
