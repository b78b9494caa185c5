"""Requests that wait for work: as many are called as may find some, whoever waits longest first."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class WaitingRoom:
    """Everybody in it looked for work in vain. All methods run on the event loop.

    After each `announce` everybody may be called once: whoever was called and found nothing finds nothing
    again until there is other news. A waiter takes `announced` first, looks, and then takes a place: what
    is announced between the look and the place it has not seen, so it may be called for that.
    """

    def __init__(self) -> None:
        self._announced = 0
        self._waiting: dict[asyncio.Future[None], int] = {}  # in the order in which they came; what each has seen
        self._is_open = True

    def announced(self) -> int:
        """Return how often there was news."""
        return self._announced

    def announce(self) -> None:
        """Let everybody who waits be called once more."""
        self._announced += 1

    @property
    def num_waiting(self) -> int:
        """How many wait. May be asked from any thread."""
        return len(self._waiting)

    def num_callable(self) -> int:
        """Return how many wait and were not called since the last news."""
        return sum(seen < self._announced for seen in self._waiting.values())

    def call(self, count: int) -> None:
        """Let up to `count` look again, those who wait longest."""
        for place in [place for place, seen in self._waiting.items() if seen < self._announced][:count]:
            del self._waiting[place]
            place.set_result(None)

    def close(self) -> None:
        """Call everybody, now and from now on."""
        self._is_open = False
        self.announce()
        self.call(len(self._waiting))

    @contextmanager
    def place(self, seen: int) -> Iterator[asyncio.Future[None]]:
        """Hold a place for as long as the block runs. The future is done once its holder is called."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._is_open:
            self._waiting[place] = seen
        else:
            place.set_result(None)
        try:
            yield place
        finally:
            self._waiting.pop(place, None)
