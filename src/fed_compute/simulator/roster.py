"""Which clients could take work now."""

from collections.abc import Iterable

import numpy as np

from fed_compute.ids import RoundId
from fed_compute.simulator.population.population import Places, Population

FEW = 4096
"""Up to so many clients all are looked at; of more, some are drawn until enough are found."""
DRAWS = 6


class Roster:
    """Keeps who is at work, who is away, and who has reported in which round. Memory: 17 bytes a client."""

    def __init__(self, population: Population, *, rng: np.random.Generator) -> None:
        self.population = population
        self._rng = rng
        self._busy = np.zeros(len(population), dtype=bool)
        self._back_at = np.zeros(len(population))
        self._reported_in = np.zeros(len(population), dtype=np.int64)

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
        size = len(self.population)
        if size > FEW:
            found = np.empty(0, dtype=np.intp)
            for _ in range(DRAWS):
                some = self._rng.integers(size, size=max(64, 3 * count))
                able = self._able(some, now=now, round_id=round_id)
                found = _without_repeats(np.concatenate([found, able]))
                if len(found) >= count:
                    return found[:count]
        everyone = self._able(np.arange(size), now=now, round_id=round_id)
        return self._rng.permutation(everyone)[:count]

    def seconds_until_anyone(self, *, now: float, round_id: RoundId) -> float | None:
        """Return in how long the first idle client is there that could work for the round; None if none ever will."""
        idle = np.flatnonzero(~self._busy & (self._reported_in != round_id))
        if not len(idle):
            return None
        away = np.maximum(self._back_at[idle] - now, 0.0)
        waits = [self.population.seconds_until_anyone(idle[away == 0.0], now)]
        if (away > 0.0).any():
            waits.append(float(away[away > 0.0].min()))
        return min((wait for wait in waits if wait is not None), default=None)

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

    def _able(self, clients: Places, *, now: float, round_id: RoundId) -> Places:
        idle = ~self._busy[clients] & (self._back_at[clients] <= now) & (self._reported_in[clients] != round_id)
        clients = clients[idle]
        return clients[self.population.are_there(clients, now)]


def _without_repeats(clients: Places) -> Places:
    _, first = np.unique(clients, return_index=True)
    return clients[np.sort(first)]
