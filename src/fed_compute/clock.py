"""Time as an argument: the only place that reads the system's clocks."""

import time
from typing import Protocol


class Event(Protocol):
    """What happens once, and can be waited for, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """Say whether it has happened."""
        ...

    def wait(self, timeout: float) -> bool:
        """Return as soon as it has happened, after `timeout` seconds at the latest; say whether it has."""
        ...


class Clock(Protocol):
    """A source of time. Stamps are Unix seconds (UTC, float), durations are seconds."""

    def now(self) -> float:
        """Return the present as Unix seconds. May jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some fixed point. Never goes back; for durations only."""
        ...

    def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock's time."""
        ...

    def wait(self, seconds: float, event: Event) -> bool:
        """Return as soon as the event has happened, after `seconds` at the latest; say whether it has."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))

    def wait(self, seconds: float, event: Event) -> bool:
        return event.wait(max(0.0, seconds))


class ManualClock:
    """A clock that moves only when told to; sleeping moves it."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        self.advance(max(0.0, seconds))

    def wait(self, seconds: float, event: Event) -> bool:
        if not event.is_set():
            self.sleep(seconds)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Move both readings forward.

        Raises:
            ValueError: if `seconds` is negative; use `jump` for a clock that was set back.
        """
        if seconds < 0:
            raise ValueError(f"time cannot advance by {seconds}")
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back; the monotonic reading stays."""
        self._now += seconds
