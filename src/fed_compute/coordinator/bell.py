"""News between threads: something was committed, look again."""

import threading


class Bell:
    """Rung after each commit. A waiter sees every ring since its last look, so none is missed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._rings = 0

    def ring(self) -> None:
        """Wake everybody who waits."""
        with self._condition:
            self._rings += 1
            self._condition.notify_all()

    def rings(self) -> int:
        """Return how often it has rung; pass it to `wait`."""
        with self._condition:
            return self._rings

    def wait(self, seen: int, *, timeout_seconds: float) -> int:
        """Return when it has rung more than `seen` times, or after the time-out; the count comes back."""
        with self._condition:
            self._condition.wait_for(lambda: self._rings != seen, timeout=timeout_seconds)
            return self._rings
