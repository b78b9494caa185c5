"""Pause, resume and finish: what a running client makes of its owner's wish."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fed_compute.client.between_batches import KEEP_LEASE_SECONDS
from fed_compute.client.own_folder import own_folders
from fed_compute.client.status_board import read_status
from fed_compute.client.trainer import set_threads
from fed_compute.client.wishes import Wish, write_wish
from fed_compute.clock import ManualClock
from fed_compute.errors import StateUnusable
from tests.unit.client.fake_coordinator import FakeCoordinator, unreachable
from tests.unit.client.recipes import recipe_for
from tests.unit.client.volunteer import NOON, Volunteer, volunteer_at

LONG = recipe_for(training={"local_epochs": 4})


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


def wish(state_dir: Path, kind: Any, until: float | None = None) -> None:
    """Say what a client should do, as the commands do."""
    (own,) = own_folders(state_dir)
    status = read_status(own.status)
    assert status is not None
    write_wish(own.wish, Wish(kind, until=until, run=status.run if kind == "finish" else None))


def on(volunteer: Volunteer, event: str, act: Callable[[], None], *, times: int = 1) -> None:
    """Do something when an event comes for the given time."""
    left = [times]

    def hear(name: str, fields: dict[str, Any]) -> None:
        if name == event:
            left[0] -= 1
            if left[0] == 0:
                act()

    volunteer.watcher.on = hear


class TellingClock(ManualClock):
    """Calls `then` once, as soon as so many seconds have passed."""

    def __init__(self) -> None:
        super().__init__(NOON)
        self.then: tuple[float, Callable[[], None]] | None = None

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        self.then = (self.monotonic() + seconds, act)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        if self.then is not None and self.monotonic() >= self.then[0]:
            act, self.then = self.then[1], None
            act()


def test_a_short_pause_costs_nothing_and_keeps_the_lease(tmp_path: Path) -> None:
    coordinator, clock = FakeCoordinator(recipe=LONG), TellingClock()
    volunteer = volunteer_at(coordinator, tmp_path, clock=clock)

    def pause() -> None:
        wish(tmp_path, "pause")
        clock.advance(1)
        clock.at(KEEP_LEASE_SECONDS - 10, lambda: wish(tmp_path, "go"))

    on(volunteer, "progress", pause, times=3)
    assert volunteer.run(until_finished=True) == 1
    names = volunteer.watcher.names()
    assert names[1:4] == ["task_received", "paused", "resumed"]
    assert coordinator.released == []
    assert clock.now() - NOON >= KEEP_LEASE_SECONDS - 10


def test_the_time_of_a_pause_is_no_training_time(tmp_path: Path) -> None:
    coordinator, clock = FakeCoordinator(recipe=LONG), TellingClock()
    volunteer = volunteer_at(coordinator, tmp_path, clock=clock, client_max_training_seconds=20)

    def pause() -> None:
        wish(tmp_path, "pause")
        clock.advance(1)
        clock.at(50, lambda: wish(tmp_path, "go"))

    on(volunteer, "progress", pause, times=3)
    assert volunteer.run(until_finished=True) == 1


def test_a_long_pause_gives_the_task_back_and_asks_for_nothing_until_it_ends(tmp_path: Path) -> None:
    coordinator, clock = FakeCoordinator(recipe=LONG), TellingClock()
    volunteer = volunteer_at(coordinator, tmp_path, clock=clock)
    silence: list[float] = []

    def pause() -> None:
        wish(tmp_path, "pause")
        clock.advance(1)
        coordinator.on_arrival = lambda request: silence.append(clock.now() - NOON)
        coordinator.given = 0  # the task goes to whoever asks next
        clock.at(3600, lambda: wish(tmp_path, "go"))

    on(volunteer, "progress", pause, times=3)
    assert volunteer.run(until_finished=True) == 1
    assert coordinator.released == ["t_1"]
    assert [moment // 1800 for moment in silence[:2]] == [0, 2], "one call gives it back, the next is after the hour"
    assert volunteer.watcher.all("policy_refused")[0]["limit"] == "pause"
    assert volunteer.watcher.all("resting")[0]["limit"] == "pause"


def test_a_paused_client_starts_paused_and_goes_on_when_the_time_is_over(tmp_path: Path) -> None:
    coordinator = FakeCoordinator()
    volunteer = volunteer_at(coordinator, tmp_path)
    wish(tmp_path, "pause", until=NOON + 600)
    asked: list[float] = []
    coordinator.on_arrival = lambda request: asked.append(volunteer.clock.now() - NOON)
    assert volunteer.run(until_finished=True) == 1
    assert min(asked[1:]) >= 600, "after the registration not a word"


def test_a_task_that_comes_into_a_pause_goes_back_at_once(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(tasks_to_give=1)
    volunteer = volunteer_at(coordinator, tmp_path)

    def handed_out(request: Any) -> None:
        if request.method == "GET" and request.url.path.startswith("/task/") and coordinator.given == 0:
            wish(tmp_path, "pause")
            volunteer.clock.advance(1)

    coordinator.on_arrival = handed_out
    volunteer.stop_at("resting")
    assert volunteer.run() == 0
    assert (coordinator.released, coordinator.calls["GET model"]) == (["t_1"], 0)


def test_what_is_finished_is_sent_in_a_pause(tmp_path: Path) -> None:
    coordinator = FakeCoordinator(tasks_to_give=2)
    volunteer = volunteer_at(coordinator, tmp_path)
    on(volunteer, "trained", lambda: wish(tmp_path, "pause", until=NOON + 60))
    assert volunteer.run(until_finished=True) == 2
    assert volunteer.watcher.names()[:6] == [
        "signed_in", "task_received", "trained", "sending", "update_accepted", "resting",
    ]  # fmt: skip


@pytest.mark.parametrize("event", ["task_received", "progress", "trained", "sending"])
def test_finish_ends_the_client_after_its_task(tmp_path: Path, event: str) -> None:
    coordinator = FakeCoordinator(tasks_to_give=9, recipe=LONG)
    volunteer = volunteer_at(coordinator, tmp_path)
    on(volunteer, event, lambda: wish(tmp_path, "finish"))
    assert volunteer.run() == 1
    assert volunteer.watcher.names()[-2:] == ["update_accepted", "finished"]
    assert (coordinator.given, coordinator.released) == (1, [])


def test_finish_ends_a_client_that_rests_outside_its_hours(tmp_path: Path) -> None:
    clock = TellingClock()
    volunteer = volunteer_at(FakeCoordinator(), tmp_path, clock=clock, client_hours="22-6")
    clock.at(600, lambda: wish(tmp_path, "finish"))
    assert volunteer.run() == 0
    assert clock.now() - NOON < 700
    assert volunteer.watcher.names()[-1] == "finished"


def test_finish_ends_a_client_that_waits_for_work_or_for_its_coordinator(tmp_path: Path) -> None:
    for name, coordinator in (
        ("idle", FakeCoordinator(tasks_to_give=0, idle_seconds=30.0)),
        ("away", FakeCoordinator(faults={"GET task": [unreachable] * 1000})),
    ):
        clock = TellingClock()
        volunteer = volunteer_at(coordinator, tmp_path / name, clock=clock)
        state_dir = tmp_path / name
        clock.at(600, lambda state_dir=state_dir: wish(state_dir, "finish"))  # type: ignore[misc]
        assert volunteer.run() == 0
        assert clock.now() - NOON < 700, name
        assert volunteer.watcher.names()[-1] == "finished"


def test_finish_goes_before_a_pause_that_it_replaces(tmp_path: Path) -> None:
    clock = TellingClock()
    volunteer = volunteer_at(FakeCoordinator(recipe=LONG, tasks_to_give=5), tmp_path, clock=clock)

    def pause() -> None:
        wish(tmp_path, "pause")
        clock.advance(1)
        clock.at(20, lambda: wish(tmp_path, "finish"))

    on(volunteer, "progress", pause, times=2)
    assert volunteer.run() == 1
    assert volunteer.watcher.names()[-1] == "finished"


def test_a_wish_that_cannot_be_read_ends_the_client_with_the_name_of_its_file(tmp_path: Path) -> None:
    coordinator = FakeCoordinator()
    volunteer = volunteer_at(coordinator, tmp_path)
    (own,) = own_folders(tmp_path)
    own.wish.write_text("?")
    with pytest.raises(StateUnusable, match=r"wish\.json"):
        volunteer.run()
    assert coordinator.calls["GET task"] == 0


def test_noon_is_noon() -> None:
    """The tests above reckon from it."""
    assert datetime.fromtimestamp(NOON).hour == 12
