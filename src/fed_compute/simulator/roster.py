"""Which clients could take work now."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from fed_compute.ids import RoundId
from fed_compute.simulator.population.population import Places, Population

Marks = npt.NDArray[np.int64] | npt.NDArray[np.int32]
FEW = 4096
"""Up to so many clients all are looked at; of more, some are drawn until enough are found."""
DRAWS = 6


class Roster:
    """Keeps who is at work, who is away, who has reported in which round, and who has measured which version.

    Memory: 21 bytes a client.
    """

    def __init__(self, population: Population, *, rng: np.random.Generator) -> None:
        self.population = population
        self._rng = rng
        self._busy = np.zeros(len(population), dtype=bool)
        self._back_at = np.zeros(len(population))
        self._reported_in = np.zeros(len(population), dtype=np.int64)
        self._measured = np.zeros(len(population), dtype=np.int32)

    @property
    def num_contributors(self) -> int:
        """How many clients have had an update accepted."""
        return int(np.count_nonzero(self._reported_in))

    def delay_starts(self, now: float) -> None:
        """Let each client come in after its own startup delay."""
        for client in range(len(self.population)):
            if self.population.device(client).startup_delay:
                self._back_at[client] = now + self.population.behavior(client).decide_startup(self._rng)

    def draw(self, count: int, *, now: float, round_id: RoundId) -> Places:
        """Return up to `count` clients who could take a task of a round, in random order, each as likely as another."""
        return self._draw(count, self._reported_in, round_id, now=now)

    def draw_measurers(self, count: int, *, now: float, version: int) -> Places:
        """Return up to `count` clients who could measure a version and have not been asked to, as `draw` does."""
        found = self._draw(count, self._measured, version, now=now)
        self._measured[found] = version
        return found

    def has_measured(self, client: int, version: int) -> bool:
        """Say whether a version is the last one that a client was asked to measure: then it has it."""
        return bool(self._measured[client] == version)

    def seconds_until_anyone(self, *, now: float, round_id: RoundId) -> float | None:
        """Return in how long the first idle client is there that could work for the round; None if none ever will."""
        return self._seconds_until(self._reported_in, round_id, now=now)

    def seconds_until_measurer(self, *, now: float, version: int) -> float | None:
        """Return in how long the first idle client is there that could measure a version; None if none ever will."""
        return self._seconds_until(self._measured, version, now=now)

    def take(self, clients: Iterable[int]) -> None:
        """Note that clients are at work."""
        self._busy[list(clients)] = True

    def free(self, client: int, *, back_at: float = 0.0) -> None:
        """Note that a client is idle again, from `back_at` on."""
        self._busy[client] = False
        self._back_at[client] = back_at

    def report(self, client: int, round_id: RoundId) -> None:
        """Note that a client's update was accepted in a round."""
        self._reported_in[client] = round_id

    def _draw(self, count: int, marks: Marks, mark: int, *, now: float) -> Places:
        """Return up to `count` idle clients who are there and whose mark is another one."""
        size = len(self.population)
        if size > FEW:
            found = np.empty(0, dtype=np.intp)
            for _ in range(DRAWS):
                some = self._rng.integers(size, size=max(64, 3 * count))
                found = _without_repeats(np.concatenate([found, self._able(some, marks, mark, now=now)]))
                if len(found) >= count:
                    return found[:count]
        return self._rng.permutation(self._able(np.arange(size), marks, mark, now=now))[:count]

    def _seconds_until(self, marks: Marks, mark: int, *, now: float) -> float | None:
        idle = np.flatnonzero(~self._busy & (marks != mark))
        if not len(idle):
            return None
        away = np.maximum(self._back_at[idle] - now, 0.0)
        waits = [self.population.seconds_until_anyone(idle[away == 0.0], now)]
        if (away > 0.0).any():
            waits.append(float(away[away > 0.0].min()))
        return min((wait for wait in waits if wait is not None), default=None)

    def _able(self, clients: Places, marks: Marks, mark: int, *, now: float) -> Places:
        idle = ~self._busy[clients] & (self._back_at[clients] <= now) & (marks[clients] != mark)
        clients = clients[idle]
        return clients[self.population.are_there(clients, now)]


def _without_repeats(clients: Places) -> Places:
    _, first = np.unique(clients, return_index=True)
    return clients[np.sort(first)]
