"""Waiting: for a time, or until the coordinator can answer, and always ready to be told to stop."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from fed_compute.client.behavior import TaskInterrupted
from fed_compute.client.observer import ClientObserver
from fed_compute.client.stop_sign import StopSign
from fed_compute.clock import Clock
from fed_compute.errors import CoordinatorUnreachable, NotNow

LONGEST_WAIT_SECONDS = 60.0
"""Longest pause between two attempts to reach a coordinator that names no time itself."""

_ResultT = TypeVar("_ResultT")


class StopAsked(TaskInterrupted):
    """The owner of this machine wants the client to stop."""


def backoff_seconds(failures: int, *, base: float, told: float, chance: float) -> float:
    """Return how long to wait after the given number of failures in a row, at least 1.

    min(60, base · 2^failures) times 50 % to 100 %, by `chance` from 0 to 1; never less than what
    the coordinator told, and up to 20 % more than that, so that clients do not all come back at once.
    """
    wait = min(LONGEST_WAIT_SECONDS, base * 2.0 ** min(failures, 30)) * (0.5 + chance / 2)
    return max(wait, told * (1.0 + chance / 5))


def pause(seconds: float, *, clock: Clock, stop: StopSign) -> None:
    """Wait for so long.

    Raises:
        StopAsked: as soon as the client is asked to stop, or if it was before.
    """
    if clock.wait(seconds, stop):
        raise StopAsked("the client was asked to stop")


class Patience:
    """Pauses and retries of one run. Every method raises `StopAsked` as soon as `stop` is set."""

    def __init__(
        self, clock: Clock, observer: ClientObserver, *, stop: StopSign, base: float, rng: np.random.Generator
    ) -> None:
        self._clock = clock
        self._observer = observer
        self._stop = stop
        self._base = base
        self._rng = rng

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
        failures = 0
        while True:
            self.check()
            try:
                return call()
            except NotNow as error:
                self.check()
                failures += 1
                over = seconds_left is not None and seconds_left() <= 0
                if over and not isinstance(error, CoordinatorUnreachable):
                    raise
                self._wait_after(error, failures)

    def _wait_after(self, error: NotNow, failures: int) -> None:
        wait = backoff_seconds(
            failures, base=self._base, told=error.retry_after_seconds, chance=float(self._rng.random())
        )
        code = error.details.get("answered", error.code)
        self._observer.event("waiting", code=code, why=error.message, seconds=round(wait, 3))
        self.pause(wait)
