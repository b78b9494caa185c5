"""What will happen, in the order of its time. Nothing happens beside it."""

import heapq
from collections.abc import Callable

from fed_compute.clock import ManualClock

Act = Callable[[], None]


class Agenda:
    """Acts at moments of a clock's monotonic time. Acts of one moment come in the order in which they were planned."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._plans: list[tuple[float, int, Act]] = []
        self._num_planned = 0

    def after(self, seconds: float, act: Act) -> None:
        """Plan an act for so many seconds from now."""
        self._num_planned += 1
        heapq.heappush(self._plans, (self._clock.monotonic() + seconds, self._num_planned, act))

    def next(self) -> Act:
        """Move the clock to the next act and return it."""
        at, _, act = heapq.heappop(self._plans)
        self._clock.advance(max(0.0, at - self._clock.monotonic()))
        return act
