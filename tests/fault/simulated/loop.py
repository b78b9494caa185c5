"""An event loop that lives in virtual time: what waits for a moment moves the clock to it."""

import asyncio
import selectors

from fed_compute.clock import ManualClock


class _Selector(selectors.DefaultSelector):
    """Never waits. No file of the simulation ever becomes ready."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Move the clock instead of waiting."""
        assert timeout is not None, "the server waits for something that will never come"
        if timeout > 0:
            self._clock.advance(timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop by a manual clock."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(_Selector(clock))
        self._manual = clock

    def time(self) -> float:
        """Return the clock's monotonic time."""
        return self._manual.monotonic()
