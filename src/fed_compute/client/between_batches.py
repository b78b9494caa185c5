"""What a client does between two batches of a training: tell how far it is, and see whether it may go on."""

from fed_compute.client.behavior import DroppedOut
from fed_compute.client.guard import Guard
from fed_compute.client.lease import LeaseKeeper
from fed_compute.client.patience import Patience
from fed_compute.client.surroundings import Surroundings
from fed_compute.errors import PolicyRefusal
from fed_compute.protocol.messages import TaskAnswer

KEEP_LEASE_SECONDS = 60.0
"""A pause in the middle of a training keeps the task for so long, with heartbeats; then it is given back."""

_LOOK_SECONDS = 0.5


class BetweenBatches:
    """Called with the fraction done, 0 to 1. Whatever speaks against going on is raised.

    Raises:
        StopAsked, DroppedOut: if this client ends, or is simulated to.
        TaskAborted, FedComputeError: if the coordinator has no use for the work.
        PolicyRefusal: if the owner's limits forbid to go on, or a pause lasts.
    """

    def __init__(
        self, task: TaskAnswer, patience: Patience, lease: LeaseKeeper, guard: Guard, surroundings: Surroundings
    ) -> None:
        self._task_id = task.task_id
        self._patience = patience
        self._lease = lease
        self._guard = guard
        self._around = surroundings
        self._look = guard.watch()
        self._drop_at = surroundings.behavior.decide_dropout(surroundings.rng)
        self._last = surroundings.clock.monotonic()

    def __call__(self, fraction: float) -> None:
        clock, observer = self._around.clock, self._around.observer
        self._patience.pause(self._around.behavior.decide_stretch(clock.monotonic() - self._last))
        self._lease.report(fraction)
        self._look(self._hold())
        self._last = clock.monotonic()
        observer.event("progress", task_id=self._task_id, fraction=fraction)
        if self._drop_at is not None and fraction >= self._drop_at:
            raise DroppedOut(fraction=fraction)

    def _hold(self) -> float:
        """Wait while the owner has paused this client; return for how many seconds. The lease is kept meanwhile."""
        if (pause := self._guard.pause()) is None:
            return 0.0
        clock, observer = self._around.clock, self._around.observer
        began = clock.monotonic()
        observer.event("paused", task_id=self._task_id, why=pause.reason)
        while (pause := self._guard.pause()) is not None:
            if clock.monotonic() - began > KEEP_LEASE_SECONDS:
                raise PolicyRefusal(pause.reason, setting=pause.setting, wait_seconds=pause.wait_seconds)
            self._patience.pause(_LOOK_SECONDS)
            self._lease.check()
        observer.event("resumed", task_id=self._task_id)
        return clock.monotonic() - began
