"""When a client that got no work asks again: as often as the rounds need, never more than the coordinator bears.

The answer needs no state: the window follows from how many clients there are and what the rounds
want, a client's moment within it from its name and the time.

Source: Bonawitz et al. 2019 (arXiv:1902.01046), section 2.3, which names the aims and no formula.
"""

import hashlib
from dataclasses import dataclass

from fed_compute.ids import ClientId

SHORTEST_WIDTH_SECONDS = 1.5
LONGEST_WIDTH_SECONDS = 120.0
"""No window is wider because there are too many clients, unless the coordinator could not bear them."""
CROWD = 3
"""Above so many clients for each slot not all of them are needed in a round."""
ASKED_PER_SLOT = 10
"""In a crowd so many clients ask for each lease that is handed out, so that no slot waits for long."""


@dataclass(frozen=True, slots=True)
class Window:
    """Ask again at a moment drawn evenly from `start_seconds` to `end_seconds` from now.

    The usual window begins after as long as it is wide. Those who come back after an outage are spread
    over one width, and so the first of them do not ask again before the last one came.
    """

    start_seconds: float
    end_seconds: float

    @classmethod
    def of_width(cls, seconds: float) -> "Window":
        """Return the usual window of a width."""
        return cls(seconds, 2 * seconds)

    @property
    def width_seconds(self) -> float:
        """How far apart the first and the last moment are."""
        return self.end_seconds - self.start_seconds

    def at_least(self, seconds: float) -> "Window":
        """Return the window, or the usual one of this width if that is wider."""
        return self if self.width_seconds >= seconds else Window.of_width(seconds)

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


def window_for(num_clients: int, demand: Demand, *, checkins_per_second: float) -> Window:
    """Return when a client without work should ask again.

    The width is W = N/R, so that no second ever brings more than the coordinator bears; in a crowd,
    N > 3·S, up to 2 minutes if 10 clients asking for each lease are enough: N / (10 · leases a second).
    Whoever is needed is never sent away for longer than the coordinator needs: a small fleet meets at
    the next round.

    Args:
        num_clients: N, clients heard of within the last hour.
        demand: what the live rounds want; S is its `slots`.
        checkins_per_second: R, requests for work that the coordinator bears in one second, above 0.
    """
    width = max(SHORTEST_WIDTH_SECONDS, num_clients / checkins_per_second)
    if num_clients > CROWD * demand.slots > 0:
        enough = num_clients / (ASKED_PER_SLOT * demand.leases_per_second)
        width = max(width, min(enough, LONGEST_WIDTH_SECONDS))
    return Window.of_width(width)


def lot_of(client_id: ClientId, *, now: float) -> float:
    """Return a number from 0 to below 1, spread evenly over clients and over the seconds of time."""
    digest = hashlib.blake2b(f"{client_id} {int(now)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
