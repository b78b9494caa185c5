"""Counting from several threads: what one process has done since it began."""

import threading
from typing import Generic, TypeVar

_Key = TypeVar("_Key")


class Tally(Generic[_Key]):
    """Sums by key. They only grow, and are gone with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[_Key, float] = {}

    def add(self, key: _Key, amount: float = 1) -> None:
        """Add to a sum; one that was never added to is 0."""
        with self._lock:
            self._sums[key] = self._sums.get(key, 0) + amount

    def read(self) -> dict[_Key, float]:
        """Return every sum that was ever added to."""
        with self._lock:
            return dict(self._sums)
