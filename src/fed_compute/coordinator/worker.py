"""Background duties: one thread that looks whenever something was committed, and once a second."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from fed_compute.coordinator.bell import Bell
from fed_compute.errors import Broken

STOP_SECONDS = 2.0
"""How long a stop waits for the present duty."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Duty:
    """One thing to do again and again. `run` says whether it did anything, and may be called at any time."""

    name: str
    run: Callable[[], bool]


@dataclass(slots=True)
class DutyRecord:
    """How a duty went since the process began. `error` says why its last run failed, None if it did not."""

    runs: int = 0
    failures: int = 0
    seconds: float = 0.0
    error: str | None = None

    def took(self, seconds: float, *, error: str | None) -> None:
        """Count one more run."""
        self.runs += 1
        self.failures += error is not None
        self.seconds += seconds
        self.error = error


class Worker:
    """Runs duties in order until nothing is left to do, then waits for the bell.

    A duty that fails is logged with its traceback and tried again a second later; the others go on.
    Every duty is idempotent, so a process that dies in the middle is replaced by the next one.
    """

    def __init__(self, duties: Sequence[Duty], bell: Bell, *, idle_seconds: float = 1.0) -> None:
        self._duties = duties
        self._bell = bell
        self._idle_seconds = idle_seconds
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._records = {duty.name: DutyRecord() for duty in duties}

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._loop, name="coordinator-worker", daemon=True)
        self._thread.start()

    def stop(self, *, timeout_seconds: float = STOP_SECONDS) -> None:
        """Stop after the present duty. Whatever was begun is finished or will be taken up by the next start."""
        self._stopping.set()
        self._bell.ring()
        if self._thread is not None:
            self._thread.join(timeout_seconds)

    def failing(self) -> dict[str, str]:
        """Return the duties that failed when they were last run, with the reason."""
        return {name: record.error for name, record in self._records.items() if record.error is not None}

    def records(self) -> dict[str, DutyRecord]:
        """Return how each duty went, by name."""
        return {name: replace(record) for name, record in self._records.items()}

    def run_once(self) -> bool:
        """Run each duty once; say whether any did something. For tests and the simulator."""
        return any([duty.run() for duty in self._duties])

    def _loop(self) -> None:
        while not self._stopping.is_set():
            seen = self._bell.rings()
            if not any([self._guarded(duty) for duty in self._duties]):
                self._bell.wait(seen, timeout_seconds=self._idle_seconds)

    def _guarded(self, duty: Duty) -> bool:
        record, began = self._records[duty.name], time.perf_counter()
        with structlog.contextvars.bound_contextvars(duty=duty.name):
            try:
                done = duty.run()
            except Exception as error:
                log.exception("duty_failed", duty=duty.name, code=getattr(error, "code", Broken.code))
                record.took(time.perf_counter() - began, error=f"{type(error).__name__}: {error}")
                self._stopping.wait(self._idle_seconds)
                return False
        record.took(time.perf_counter() - began, error=None)
        return done
