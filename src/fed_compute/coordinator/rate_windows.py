"""Counts in sliding windows: the arithmetic, and a store of counts in the memory of this process.

Two windows of equal length stand side by side: the present one, and the one before it, of which the part counts that a
window reaching back from now would still cover. The first event starts a window, the next one begins where it ends.
This is what the `limits` library does in Redis; its own store in memory walks over all counts a hundred times a second.
"""

import threading
from collections.abc import Callable
from typing import Protocol

WindowState = tuple[int, float, int, float]
"""Count of the window before, seconds until it is forgotten, count of the present one, seconds until that one is."""

PURGE_SECONDS = 30.0


class Windows(Protocol):
    """A store of counts, safe to share between threads. `limits.storage.RedisStorage` is another."""

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` in windows of `expiry` seconds if no more than `limit` are then in them; say whether."""
        ...

    def get_sliding_window(self, key: str, expiry: int) -> WindowState:
        """Return what is counted."""
        ...


class LocalWindows:
    """Counts in memory. Memory: some 300 bytes for each key counted within the last two windows."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counts: dict[str, _Count] = {}
        self._purged_at = monotonic()

    def __len__(self) -> int:
        return len(self._counts)

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` in windows of `expiry` seconds if no more than `limit` are then in them; say whether."""
        with self._lock:
            now = self._monotonic()
            self._purge(now)
            count = self._counts.get(key)
            if count is None or not count.move_to(now):
                self._counts[key] = count = _Count(now, expiry)
            if weighted(count.state(now), expiry) + amount > limit:
                return False
            count.present += amount
            return True

    def get_sliding_window(self, key: str, expiry: int) -> WindowState:
        """Return what is counted."""
        with self._lock:
            now, count = self._monotonic(), self._counts.get(key)
            return count.state(now) if count is not None and count.move_to(now) else (0, 0.0, 0, 0.0)

    def _purge(self, now: float) -> None:
        if now - self._purged_at < PURGE_SECONDS:
            return
        self._purged_at = now
        self._counts = {key: count for key, count in self._counts.items() if not count.is_forgotten(now)}


class _Count:
    __slots__ = ("before", "present", "seconds", "start")

    def __init__(self, start: float, seconds: int) -> None:
        self.start = start
        self.seconds = seconds
        self.before = 0
        self.present = 0

    def is_forgotten(self, now: float) -> bool:
        return now >= self.start + 2 * self.seconds

    def move_to(self, now: float) -> bool:
        """Go to the window that `now` lies in; say False if all that was counted is forgotten by then."""
        if self.is_forgotten(now):
            return False
        if now >= self.start + self.seconds:
            self.start += self.seconds
            self.before, self.present = self.present, 0
        return True

    def state(self, now: float) -> WindowState:
        left = self.start + self.seconds - now
        return self.before, left if self.before else 0.0, self.present, left + self.seconds


def weighted(state: WindowState, window_seconds: int) -> int:
    """Return how much counts now: all of the present window and the part of the one before that is not over yet."""
    before, before_left, present, _ = state
    return int(before * before_left / window_seconds) + present


def seconds_to_wait(state: WindowState, *, limit: int, cost: int, window_seconds: int) -> float:
    """Return how long it takes, if nothing else is counted meanwhile, until `cost` (at most `limit`) fits in."""
    before, before_left, present, present_left = state
    if weighted(state, window_seconds) + cost <= limit:
        return 0.0
    if (room := limit - cost - present) >= 0:  # enough of the window before goes by while the present one lasts
        return max(0.0, before_left - (room + 1) * window_seconds / before)
    window_end = max(0.0, present_left - window_seconds)
    return window_end + max(0.0, window_seconds - (limit - cost + 1) * window_seconds / present)


def seconds_of_window(state: WindowState, window_seconds: int) -> float:
    """Return how long the present window lasts; a whole window if none has begun."""
    return max(0.0, state[3] - window_seconds) or float(window_seconds)
