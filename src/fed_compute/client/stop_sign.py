"""The owner's wish that the client stops."""

from contextlib import suppress
from queue import Empty, SimpleQueue

_SLICE_SECONDS = 1.0
"""Where a signal cannot end a wait, as on Windows, its handler runs this much later at most."""


class StopSign:
    """Like `threading.Event`, but a signal handler may set it while the interrupted thread waits for it.

    An event would take a lock then that the thread may hold itself, and hang for ever; to put something into a
    `SimpleQueue` is safe at any moment. It stays set.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._news: SimpleQueue[None] = SimpleQueue()

    def is_set(self) -> bool:
        """Say whether the client should stop."""
        return self._is_set

    def set(self) -> None:
        """Ask the client to stop, from any thread or signal handler. Every wait ends at once."""
        self._is_set = True
        self._news.put(None)

    def wait(self, timeout: float) -> bool:
        """Return as soon as it is set, after `timeout` seconds at the latest; say whether it is set."""
        left = timeout
        while not self._is_set and left > 0:
            with suppress(Empty):  # nothing came in this slice
                self._news.get(timeout=min(left, _SLICE_SECONDS))
                self._news.put(None)  # for whoever else waits
            left -= _SLICE_SECONDS
        return self._is_set
