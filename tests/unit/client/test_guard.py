"""The owner's limits against a real clock, a real count and the power supply."""

from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from fed_compute.client.guard import Guard
from fed_compute.client.history import DayBook
from fed_compute.client.hours import Hours
from fed_compute.client.machine import on_battery
from fed_compute.client.policy import Policy
from fed_compute.clock import ManualClock
from fed_compute.errors import PolicyRefusal
from tests.unit.client.parts import wishes_in
from tests.unit.client.recipes import recipe_for, task_for
from tests.unit.client.volunteer import NOON


class Power:
    """A supply that can be unplugged, and counts how often it was looked at."""

    def __init__(self) -> None:
        self.unplugged = False
        self.looks = 0

    def __call__(self) -> bool:
        self.looks += 1
        return self.unplugged


def guard_in(folder: Path, clock: ManualClock, power: Power | None = None, **limits: Any) -> Guard:
    return Guard(Policy(**limits), DayBook(folder), wishes_in(folder, clock), clock, on_battery=power or Power())


def test_what_the_limits_forbid_is_refused_with_setting_and_time(tmp_path: Path) -> None:
    clock = ManualClock(NOON)
    guard = guard_in(tmp_path, clock, max_local_epochs=1, max_rounds_per_day=1)
    guard.admit(task_for(recipe_for()), own_samples=80)
    with pytest.raises(PolicyRefusal, match="2 local epochs") as lasting:
        guard.admit(task_for(recipe_for(training={"local_epochs": 2})), own_samples=80)
    assert (lasting.value.setting, lasting.value.wait_seconds) == ("CLIENT_MAX_LOCAL_EPOCHS", None)
    guard.spend_round()
    with pytest.raises(PolicyRefusal, match="1 update") as passing:
        guard.admit(task_for(recipe_for()), own_samples=80)
    assert passing.value.wait_seconds == 12 * 3600
    objection = guard.objection()
    assert objection is not None
    assert objection.setting == "CLIENT_MAX_ROUNDS_PER_DAY"
    clock.advance(12 * 3600)
    assert guard.objection() is None


def test_the_last_update_of_a_day_leaves_once_even_if_two_were_trained(tmp_path: Path) -> None:
    """Two clients of one machine are both admitted, then both have an update ready."""
    clock = ManualClock(NOON)
    first, second = (guard_in(tmp_path, clock, max_rounds_per_day=1) for _ in range(2))
    first.spend_round()
    with pytest.raises(PolicyRefusal, match="CLIENT_MAX_ROUNDS_PER_DAY allows 1"):
        second.spend_round()


def test_a_training_is_looked_at_once_a_second_and_stopped_when_it_takes_too_long(tmp_path: Path) -> None:
    clock, power = ManualClock(NOON), Power()
    look = guard_in(tmp_path, clock, power, ac_power_only=True, max_training_seconds=10).watch()
    for _ in range(100):
        look(0.0)
        clock.advance(0.1)
    assert 8 <= power.looks <= 10
    clock.advance(1)
    with pytest.raises(PolicyRefusal, match="CLIENT_MAX_TRAINING_SECONDS=10"):
        look(0.0)


@pytest.mark.parametrize("hours", [None, Hours(11 * 60, 12 * 60 + 1)])
def test_a_training_stops_when_the_plug_is_pulled_or_the_hours_are_over(tmp_path: Path, hours: Hours | None) -> None:
    clock, power = ManualClock(NOON), Power()
    look = guard_in(tmp_path, clock, power, ac_power_only=True, hours=hours).watch()
    look(0.0)
    power.unplugged = hours is None
    clock.advance(60)
    with pytest.raises(PolicyRefusal, match="battery" if hours is None else "CLIENT_HOURS=11-12:01"):
        look(0.0)


def test_the_power_supply_is_looked_at_only_if_it_matters(tmp_path: Path) -> None:
    power = Power()
    guard = guard_in(tmp_path, ManualClock(NOON), power)
    guard.admit(task_for(recipe_for()), own_samples=80)
    assert guard.objection() is None
    assert power.looks == 0


@pytest.mark.parametrize(
    ("plugged", "battery"), [(True, False), (False, True), (None, True)], ids=["plugged in", "unplugged", "unknown"]
)
def test_a_battery_that_is_not_surely_charging_counts_as_in_use(
    monkeypatch: pytest.MonkeyPatch, plugged: bool | None, battery: bool
) -> None:
    class Supply:
        power_plugged = plugged

    monkeypatch.setattr(psutil, "sensors_battery", Supply, raising=False)
    assert on_battery() == battery


def test_a_machine_without_a_battery_is_never_on_battery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: None, raising=False)
    assert not on_battery()
    monkeypatch.delattr(psutil, "sensors_battery")
    assert not on_battery()


def test_a_supply_that_cannot_be_read_counts_as_a_battery(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable() -> None:
        raise OSError("no such device")

    monkeypatch.setattr(psutil, "sensors_battery", unreadable, raising=False)
    assert on_battery()


def test_hours_are_those_of_the_machine_s_own_time_zone(tmp_path: Path) -> None:
    clock = ManualClock(datetime(2026, 3, 2, 23, 30).timestamp())
    assert guard_in(tmp_path, clock, hours=Hours(22 * 60, 6 * 60)).objection() is None
    clock.advance(7 * 3600)
    assert guard_in(tmp_path, clock, hours=Hours(22 * 60, 6 * 60)).objection() is not None
