"""Work that lost its worker is given to another, but not for ever."""

import numpy as np
import pytest

from fed_compute.errors import WorkerLost
from fed_compute.simulator.ray.pieces import Piece
from fed_compute.simulator.ray.pile import Pile


def piece(first: int) -> Piece:
    numbers = np.arange(2)
    return Piece(slice(first, first + 2), numbers, numbers, np.arange(3), numbers, None)


def test_what_came_back_is_handed_out_before_what_is_new() -> None:
    first, second = piece(0), piece(2)
    pile = Pile(iter([first, second]))
    assert pile.take() is first
    pile.put_back(first, reason="killed")
    assert [pile.take(), pile.take(), pile.take()] == [first, second, None]


def test_clients_that_lose_three_workers_are_no_accident() -> None:
    """A model too large for a node's memory would otherwise end worker after worker."""
    lonely, other = piece(0), piece(2)
    pile = Pile(iter([lonely, other]))
    for _ in range(2):
        pile.put_back(lonely, reason="killed")
        pile.put_back(other, reason="killed")
    with pytest.raises(WorkerLost, match=r"3 workers .* lost over the same 2 clients, the last one: out of memory"):
        pile.put_back(lonely, reason="out of memory")
