"""Waiting: for a time, or until the coordinator can answer, and always ready to be told to stop."""

from collections.abc import Callable
from typing import TypeVar

from fed_compute.client.backoff import Backoff
from fed_compute.client.behavior import TaskInterrupted
from fed_compute.client.observer import ClientObserver
from fed_compute.client.stop_sign import StopSign
from fed_compute.clock import Clock
from fed_compute.errors import CoordinatorUnreachable, NotNow

_ResultT = TypeVar("_ResultT")


class StopAsked(TaskInterrupted):
    """The owner of this machine wants the client to stop."""


def pause(seconds: float, *, clock: Clock, stop: StopSign) -> None:
    """Wait for so long.

    Raises:
        StopAsked: as soon as the client is asked to stop, or if it was before.
    """
    if clock.wait(seconds, stop):
        raise StopAsked("the client was asked to stop")


class Patience:
    """Pauses and retries of one run. Every method raises `StopAsked` as soon as `stop` is set."""

    def __init__(self, clock: Clock, observer: ClientObserver, *, stop: StopSign, backoff: Backoff) -> None:
        self._clock = clock
        self._observer = observer
        self._stop = stop
        self._backoff = backoff

    def check(self) -> None:
        """Raise `StopAsked` if the client should stop."""
        self.pause(0.0)

    def pause(self, seconds: float) -> None:
        """Wait for so long."""
        pause(seconds, clock=self._clock, stop=self._stop)

    def until_answered(
        self, call: Callable[[], _ResultT], *, seconds_left: Callable[[], float] | None = None
    ) -> _ResultT:
        """Repeat the call until it returns or raises something else than `NotNow`.

        With `seconds_left`, the last `NotNow` is raised once no time is left, except while the
        coordinator cannot be reached at all: only it can say that the work is useless, and there is
        nothing else to do meanwhile.
        """
        while True:
            self.check()
            try:
                return call()
            except NotNow as error:
                self.check()
                self._backoff.failed(error)
                over = seconds_left is not None and seconds_left() <= 0
                if over and not isinstance(error, CoordinatorUnreachable):
                    raise
                self._wait_after(error)

    def _wait_after(self, error: NotNow) -> None:
        seconds, code = self._backoff.seconds_left(), error.details.get("answered", error.code)
        self._observer.event("waiting", code=code, why=error.message, seconds=round(seconds, 3))
        self.pause(seconds)
