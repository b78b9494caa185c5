"""Cutting a call into pieces that travel: whole groups, so that it does not matter who trains which."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fed_compute.client.datasets import Dataset
from fed_compute.protocol.schema import Vector
from fed_compute.simulator.cohort.calls import Call, Numbers, groups_of
from fed_compute.simulator.cohort.shards import Rows

_PIECES_PER_WORKER = 8
_LARGEST_RESULT_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Piece:
    """The clients `clients` of a call, in training order, with what is theirs alone.

    The arrays are as in `Call`, for these k clients: `bounds` counts from 0, `added`, shape (k, P), is in training
    order. It begins and ends where a group does, so `groups_of` its sources are groups of the whole call.
    """

    clients: slice
    sources: Numbers
    rows: Rows
    bounds: Numbers
    seeds: Numbers
    added: npt.NDArray[np.float32] | None

    def __len__(self) -> int:
        return len(self.seeds)

    def call(self, base: Vector, datasets: Sequence[Dataset]) -> Call:
        """Return the piece as a call of its own, with room for its results in training order."""
        return Call(
            base=base,
            datasets=tuple(datasets),
            sources=self.sources,
            rows=self.rows,
            bounds=self.bounds,
            seeds=self.seeds,
            places=np.arange(len(self)),
            added=self.added,
            deltas=np.empty((len(self), len(base)), dtype=np.float32),
            losses=np.empty(len(self)),
        )


def pieces_of(call: Call, *, clients_at_once: int, num_workers: int) -> Iterator[Piece]:
    """Cut a call into several pieces for each worker, so that a slow one is not waited for long.

    A piece's deltas take 64 MiB at most, or those of one group.
    """
    groups = groups_of(call.sources, clients_at_once)
    group_bytes = 4 * len(call.base) * clients_at_once
    each = min(len(groups) // (num_workers * _PIECES_PER_WORKER), _LARGEST_RESULT_BYTES // group_bytes)
    for first in range(0, len(groups), max(1, each)):
        together = groups[first : first + max(1, each)]
        yield _piece(call, slice(together[0].start, together[-1].stop))


def _piece(call: Call, clients: slice) -> Piece:
    bounds = call.bounds[clients.start : clients.stop + 1]
    return Piece(
        clients,
        sources=call.sources[clients],
        rows=call.rows[bounds[0] : bounds[-1]],
        bounds=bounds - bounds[0],
        seeds=call.seeds[clients],
        added=None if call.added is None else call.added[call.places[clients]],
    )


def put_back(call: Call, piece: Piece, deltas: npt.NDArray[np.float32], losses: npt.NDArray[np.float64]) -> None:
    """Write the results of a piece, shapes (k, P) and (k,), to their places in the whole call."""
    places = call.places[piece.clients]
    call.deltas[places], call.losses[places] = deltas, losses
