"""When a coordinator that cannot answer is called again: one counter of failures for all calls to it."""

import numpy as np

from fed_compute.clock import Clock
from fed_compute.errors import NotNow

LONGEST_WINDOW_SECONDS = 60.0
"""The longest window of a retry, unless the owner wants the first one longer, or the coordinator all of them."""


class Backoff:
    """Full jitter in windows that follow each other without a gap.

    The n-th failure in a row has a window of min(60, base · 2^(n−1)) seconds, and the next try comes at a
    moment drawn evenly from it. The rest of a window is waited out before the next one begins: then N
    clients never make more than N tries in a window's length, neither when they all lost their
    coordinator at the same moment nor when it is back. (Where each wait begins at the last try, as in
    Brooker 2015, twice as many come in the first moment after an outage.) Not safe for several threads.
    """

    def __init__(self, clock: Clock, rng: np.random.Generator, *, base: float) -> None:
        self._clock = clock
        self._rng = rng
        self._base = base
        self._pace = 0.0
        self._failures = 0
        self._rest = 0.0
        self._ready_at = float("-inf")
        self._last: NotNow | None = None

    def failed(self, error: NotNow) -> None:
        """Take note that a call failed. The same error may go through several hands and counts once.

        What the coordinator told with it is waited for at least, and up to 20 % more.
        """
        if error is self._last:
            return
        chance = float(self._rng.random())
        longest = max(LONGEST_WINDOW_SECONDS, self._base)
        window = max(self._pace, min(longest, self._base * 2.0 ** min(self._failures, 30)))
        told = error.retry_after_seconds * (1.0 + chance / 5)
        self._ready_at = self._clock.monotonic() + max(told, self._rest + chance * window)
        self._rest = (1.0 - chance) * window
        self._failures, self._last = self._failures + 1, error

    def succeeded(self) -> None:
        """Take note that the coordinator answered."""
        self._failures, self._rest, self._last = 0, 0.0, None

    def keep_pace(self, gap_seconds: float) -> None:
        """Take note of how often the coordinator wants to be asked: no window is shorter than that."""
        self._pace = gap_seconds

    def seconds_left(self) -> float:
        """Return how long to wait before the next call, at least 0."""
        return max(0.0, self._ready_at - self._clock.monotonic())
