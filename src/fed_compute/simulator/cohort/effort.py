"""Training that has begun: in other processes it goes on by itself, here while somebody waits for it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fed_compute.protocol.updates import ROOM_BYTES
from fed_compute.simulator.cohort.calls import Numbers

ROOM_VALUES = ROOM_BYTES // 4
"""So many float32 values are left free before each delta, so that it can become an update where it lies."""

Step = Callable[[], Iterable[slice]]
"""Does a piece of the work, or waits for others who do; returns the groups of clients that are done since."""


@dataclass(frozen=True, eq=False)
class CohortResult:
    """What n clients' training gave, in the order of their shards.

    `deltas`, shape (n, P), float32, is trained minus base. `losses`, shape (n,), float64, is each client's mean loss
    per sample over its last epoch. Both are NaN for a client whose loss or parameters stopped being finite, where
    `client.trainer` raises `TrainingDiverged`. `rooms`, shape (n, at least P), is the memory whose rows end with the
    deltas, if there is any before them.
    """

    deltas: npt.NDArray[np.float32]
    losses: npt.NDArray[np.float64]
    rooms: npt.NDArray[np.float32] | None = None

    def room(self, client: int) -> memoryview | None:
        """Return the bytes of a client's delta with at least `ROOM_BYTES` before them, or None if there are none.

        They can be written. Keeping them keeps the memory of all clients.
        """
        if self.rooms is None or self.rooms.shape[1] < ROOM_VALUES + self.deltas.shape[1]:
            return None
        return memoryview(self.rooms[client]).cast("B")


class Effort:
    """Clients who are being trained. Client i, in training order, is the one of shard `places[i]`."""

    def __init__(self, result: CohortResult, places: Numbers, step: Step) -> None:
        self._result = result
        self._places = places
        self._step = step
        self._done = np.zeros(len(places), dtype=bool)

    def until(self, count: int) -> CohortResult:
        """Wait until the first `count` shards are done, training meanwhile; the other rows may mean nothing yet.

        Raises:
            WorkerLost: if a process ended before its work was done. What was not done by then never will be.
        """
        while not self._done[:count].all():
            for group in self._step():
                self._done[self._places[group]] = True
        return self._result

    def finish(self) -> CohortResult:
        """Wait until all are done."""
        return self.until(len(self._done))
