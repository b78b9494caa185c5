"""Background duties: one thread that looks whenever something was committed, and once a second."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
        self._failing: dict[str, str] = {}

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
        return dict(self._failing)

    def run_once(self) -> bool:
        """Run each duty once; say whether any did something. For tests and the simulator."""
        return any([duty.run() for duty in self._duties])

    def _loop(self) -> None:
        while not self._stopping.is_set():
            seen = self._bell.rings()
            if not any([self._guarded(duty) for duty in self._duties]):
                self._bell.wait(seen, timeout_seconds=self._idle_seconds)

    def _guarded(self, duty: Duty) -> bool:
        with structlog.contextvars.bound_contextvars(duty=duty.name):
            try:
                done = duty.run()
            except Exception as error:
                log.exception("duty_failed", duty=duty.name, code=getattr(error, "code", Broken.code))
                self._failing[duty.name] = f"{type(error).__name__}: {error}"
                self._stopping.wait(self._idle_seconds)
                return False
        self._failing.pop(duty.name, None)
        return done
