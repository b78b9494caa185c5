"""The lease on one task, kept alive by heartbeats from a background thread."""

import contextvars
import threading
from types import TracebackType
from typing import Self

from fed_compute.client.answers import printable
from fed_compute.client.api import CoordinatorApi
from fed_compute.client.behavior import TaskInterrupted
from fed_compute.clock import Clock
from fed_compute.errors import FedComputeError, NotNow
from fed_compute.protocol.messages import TaskAnswer

_SHORTEST_HEARTBEAT_SECONDS = 0.05
_LONGEST_HEARTBEAT_SECONDS = 3600.0


class TaskAborted(TaskInterrupted):
    """The coordinator has no more use for the work on this task."""


class LeaseKeeper:
    """Sends a heartbeat with the progress every `heartbeat_seconds` while the `with` block runs.

    A heartbeat that does not get through is not repeated; the next one is the retry. The thread
    only records what it learns; `report` and `check` raise it in the thread that works.
    """

    def __init__(self, api: CoordinatorApi, task: TaskAnswer, clock: Clock) -> None:
        self._api = api
        self._task_id = task.task_id
        self._pause = min(max(task.heartbeat_seconds, _SHORTEST_HEARTBEAT_SECONDS), _LONGEST_HEARTBEAT_SECONDS)
        self._clock = clock
        self._lease_end = clock.monotonic() + task.seconds_left
        self._progress = 0.0
        self._ended: TaskAborted | FedComputeError | None = None
        self._finished = threading.Event()
        here = contextvars.copy_context()  # heartbeats belong to the task's trace
        name = f"heartbeat-{task.task_id[:20]}"
        self._thread = threading.Thread(target=here.run, args=(self._beat,), name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finished.set()
        self._thread.join()

    def report(self, fraction: float) -> None:
        """Note the fraction of the work done, 0 to 1, for the next heartbeat; then `check`."""
        self._progress = fraction
        self.check()

    def check(self) -> None:
        """Return if the work is still wanted.

        Raises:
            TaskAborted: if the coordinator said to stop.
            Refused, Misuse: if a heartbeat was answered with an error that stays.
        """
        if self._ended is not None:
            raise self._ended

    def seconds_left(self) -> float:
        """Return how long the lease lasts by the last answer; negative when it is over."""
        return self._lease_end - self._clock.monotonic()

    def _beat(self) -> None:
        while not self._finished.wait(self._pause):
            try:
                answer = self._api.heartbeat(self._task_id, self._progress)
            except NotNow:
                continue
            except FedComputeError as error:
                self._ended = error
                return
            self._lease_end = self._clock.monotonic() + answer.seconds_left
            if answer.action == "abort":
                self._ended = TaskAborted(printable((answer.reason or "the coordinator gave no reason")[:200]))
                return
