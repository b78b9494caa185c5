"""Facts that never change: found out once in each process, and so right however many processes there are."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_KeyT = TypeVar("_KeyT", bound=Hashable)
_FactT = TypeVar("_FactT")


class Remembered(Generic[_KeyT, _FactT]):
    """Remembers the facts that it was asked for, the last `most` of them. Safe to share between threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._facts: dict[_KeyT, _FactT] = {}
        self._lock = threading.Lock()

    def of(self, key: _KeyT, find_out: Callable[[], _FactT]) -> _FactT:
        """Return a fact. If it is not known, it is found out, while whoever else asks for one waits."""
        with self._lock:
            if key not in self._facts:
                fact = find_out()
                if len(self._facts) == self._most:
                    del self._facts[next(iter(self._facts))]  # the oldest
                self._facts[key] = fact
            return self._facts[key]
