"""Waiting for a coordinator, and being told to stop."""

import threading
from collections.abc import Callable

import numpy as np
import pytest

from fed_compute.client.backoff import LONGEST_WINDOW_SECONDS, Backoff
from fed_compute.client.patience import Patience, StopAsked
from fed_compute.client.stop_sign import StopSign
from fed_compute.clock import Clock, ManualClock, SystemClock
from fed_compute.errors import CallRefused, CoordinatorBusy, CoordinatorUnreachable, NotNow


class Notes:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def event(self, name: str, **fields: object) -> None:
        self.events.append((name, fields))


def patience_with(clock: Clock, stop: StopSign | None = None, notes: Notes | None = None) -> Patience:
    backoff = Backoff(clock, np.random.Generator(np.random.PCG64(0)), base=2.0)
    return Patience(clock, notes or Notes(), stop=stop or StopSign(), backoff=backoff)


def failing(times: int, error: NotNow, then: Callable[[], None] = lambda: None) -> Callable[[], str]:
    """Return a call that fails some times, then answers."""
    left = times

    def call() -> str:
        nonlocal left
        if left:
            left -= 1
            then()
            raise type(error)(error.message, retry_after_seconds=error.retry_after_seconds)
        return "answer"

    return call


UNREACHABLE = CoordinatorUnreachable("nobody answers", retry_after_seconds=0.0)
BUSY = CoordinatorBusy("too much to do", retry_after_seconds=0.0)


def test_a_coordinator_that_is_away_for_a_week_is_waited_for() -> None:
    """Volunteers leave their machine alone; nobody is there to start it again."""
    clock = ManualClock()
    week = 7 * 86_400
    start = clock.monotonic()

    def call() -> str:
        if clock.monotonic() - start < week:
            raise CoordinatorUnreachable("nobody answers", retry_after_seconds=0.0)
        return "answer"

    notes = Notes()
    assert patience_with(clock, notes=notes).until_answered(call) == "answer"
    assert len(notes.events) <= week / LONGEST_WINDOW_SECONDS + 6
    assert clock.monotonic() - start <= week + 2 * LONGEST_WINDOW_SECONDS
    assert notes.events[0][1]["code"] == "coordinator_unreachable"


def test_an_error_that_stays_is_not_waited_out() -> None:
    def refuse() -> None:
        raise CallRefused("no")

    clock = ManualClock()
    with pytest.raises(CallRefused):
        patience_with(clock).until_answered(refuse)
    assert clock.monotonic() == 0


def test_a_busy_coordinator_is_given_up_when_the_lease_is_over() -> None:
    clock = ManualClock()
    with pytest.raises(CoordinatorBusy):
        patience_with(clock).until_answered(failing(99, BUSY), seconds_left=lambda: 100 - clock.monotonic())
    assert 100 <= clock.monotonic() < 100 + 2 * LONGEST_WINDOW_SECONDS


def test_an_unreachable_one_is_not_because_only_it_can_say_that_the_work_is_useless() -> None:
    clock = ManualClock()
    call = failing(9, UNREACHABLE)
    assert patience_with(clock).until_answered(call, seconds_left=lambda: -1.0) == "answer"


def test_a_pause_ends_with_the_wish_to_stop() -> None:
    stop = StopSign()
    threading.Thread(target=stop.set).start()
    with pytest.raises(StopAsked):
        patience_with(SystemClock(), stop).pause(1e6)


def test_a_client_that_was_asked_to_stop_begins_no_wait_and_no_call() -> None:
    stop, clock, notes = StopSign(), ManualClock(), Notes()
    stop.set()
    patience = patience_with(clock, stop, notes)
    with pytest.raises(StopAsked):
        patience.pause(3600)
    with pytest.raises(StopAsked):
        patience.until_answered(lambda: pytest.fail("it was called"))
    assert (clock.monotonic(), notes.events) == (0, [])


def test_retries_end_with_the_wish_to_stop_and_announce_no_further_wait() -> None:
    stop, notes = StopSign(), Notes()
    with pytest.raises(StopAsked):
        patience_with(ManualClock(), stop, notes).until_answered(failing(99, UNREACHABLE, then=stop.set))
    assert notes.events == []
