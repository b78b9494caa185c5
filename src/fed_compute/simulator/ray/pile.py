"""The pieces of a call that wait for somebody to train them."""

from collections import Counter
from collections.abc import Iterator

from fed_compute.errors import WorkerLost
from fed_compute.simulator.ray.pieces import Piece

_MOST_LOSSES = 3


class Pile:
    """Hands out each piece once, and once more each time its worker was lost, up to three."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._pieces = pieces
        self._returned: list[Piece] = []
        self._losses: Counter[int] = Counter()

    def take(self) -> Piece | None:
        """Return the next piece, those that came back first, or None if there is none at present."""
        return self._returned.pop() if self._returned else next(self._pieces, None)

    def put_back(self, piece: Piece, *, reason: str) -> None:
        """Take a piece back whose worker was lost.

        Raises:
            WorkerLost: if it was the third worker that this piece lost; that is no accident any more.
        """
        self._losses[piece.clients.start] += 1
        if self._losses[piece.clients.start] == _MOST_LOSSES:
            raise WorkerLost(
                f"{_MOST_LOSSES} workers of the cluster were lost over the same {len(piece)} clients, the last one: "
                f"{reason}; this round's results are lost; if memory is short, run again with fewer workers"
            )
        self._returned.append(piece)
