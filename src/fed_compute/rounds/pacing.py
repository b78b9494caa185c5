"""When a client that got no work asks again: as often as the rounds need, never more than the coordinator bears.

The answer needs no state: the window follows from how many clients there are and what the rounds
want, a client's moment within it from its name and the time.

Source: Bonawitz et al. 2019 (arXiv:1902.01046), section 2.3, which names the aims and no formula.
"""

import hashlib
from dataclasses import dataclass

from fed_compute.ids import ClientId

SHORTEST_GAP_SECONDS = 2.0
LONGEST_GAP_SECONDS = 300.0
"""Nobody is sent away for longer because there are too many, unless the coordinator could not bear it."""
CROWD = 3
"""Above so many clients for each slot not all of them are needed in a round."""
ASKED_PER_SLOT = 10
"""In a crowd so many clients ask for each lease that is handed out, so that no slot waits for long."""


@dataclass(frozen=True, slots=True)
class Window:
    """Ask again at a moment drawn evenly from `start_seconds` to `end_seconds` from now."""

    start_seconds: float
    end_seconds: float

    @classmethod
    def around(cls, gap_seconds: float) -> "Window":
        """Return the window whose mean is `gap_seconds`, and its width too."""
        return cls(0.5 * gap_seconds, 1.5 * gap_seconds)

    @property
    def width_seconds(self) -> float:
        """How far apart the first and the last moment are."""
        return self.end_seconds - self.start_seconds

    def at_least(self, gap_seconds: float) -> "Window":
        """Return the window, or a longer one whose mean is `gap_seconds`."""
        return self if self.width_seconds >= gap_seconds else Window.around(gap_seconds)

    def after(self, seconds: float) -> "Window":
        """Return a window just as wide that begins in `seconds`."""
        return Window(seconds, seconds + self.width_seconds)

    def at(self, lot: float) -> float:
        """Return the moment that a lot from 0 to 1 draws, in seconds from now."""
        return self.start_seconds + lot * self.width_seconds


@dataclass(frozen=True, slots=True)
class Demand:
    """What all live rounds want together: so many leases out at once, and so many handed out a second."""

    slots: int = 0
    leases_per_second: float = 0.0

    def __add__(self, other: "Demand") -> "Demand":
        return Demand(self.slots + other.slots, self.leases_per_second + other.leases_per_second)


def gap_seconds(num_clients: int, demand: Demand, *, checkins_per_second: float) -> float:
    """Return how long a client without work should stay away on average.

    G = N/R, what the coordinator bears; in a crowd, N > 3·S, up to 5 minutes if 10 clients asking for
    each lease are enough: N / (10 · leases a second). Whoever is needed is never sent away for longer
    than the coordinator needs: a small fleet meets at the next round.

    Args:
        num_clients: N, clients heard of within the last hour.
        demand: what the live rounds want; S is its `slots`.
        checkins_per_second: R, requests for work that the coordinator bears in one second, above 0.
    """
    bearable = max(SHORTEST_GAP_SECONDS, num_clients / checkins_per_second)
    if demand.slots == 0 or num_clients <= CROWD * demand.slots:
        return bearable
    return max(bearable, min(num_clients / (ASKED_PER_SLOT * demand.leases_per_second), LONGEST_GAP_SECONDS))


def lot_of(client_id: ClientId, *, now: float) -> float:
    """Return a number from 0 to below 1, spread evenly over clients and over the seconds of time."""
    digest = hashlib.blake2b(f"{client_id} {int(now)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
