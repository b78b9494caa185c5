"""Pieces of a call: wherever it is cut, the groups and the results are those of the whole."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.datasets import Dataset
from fed_compute.simulator.cohort.calls import Call, groups_of
from fed_compute.simulator.ray.pieces import pieces_of, put_back

DATASETS = tuple(Dataset(np.zeros((9, 1), np.float32), np.zeros(9, np.int64), name) for name in "ab")


def call_of(sizes: list[int], second: int, *, adds: bool) -> Call:
    """Return a call of clients with so many rows, the last `second` of them on the second data set."""
    count = len(sizes)
    return Call(
        base=np.zeros(3, dtype=np.float32),
        datasets=DATASETS,
        sources=(np.arange(count) >= count - second).astype(np.int64),
        rows=np.arange(sum(sizes)) % 9,
        bounds=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        seeds=np.arange(count) + 100,
        places=np.random.default_rng(0).permutation(count),
        added=np.arange(3.0 * count, dtype=np.float32).reshape(count, 3) if adds else None,
        deltas=np.full((count, 3), np.nan, dtype=np.float32),
        losses=np.full(count, np.nan),
    )


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=60),
    st.integers(0, 60),
    st.integers(1, 7),
    st.integers(1, 4),
    st.booleans(),
)
def test_pieces_are_whole_groups_and_come_back_to_their_places(
    sizes: list[int], second: int, clients_at_once: int, num_workers: int, adds: bool
) -> None:
    call = call_of(sizes, min(second, len(sizes)), adds=adds)
    groups: list[slice] = []
    for piece in pieces_of(call, clients_at_once=clients_at_once, num_workers=num_workers):
        first, part = piece.clients.start, piece.call(call.base, call.datasets)
        found = groups_of(part.sources, clients_at_once)
        groups += [slice(first + group.start, first + group.stop) for group in found]
        for client in range(len(part)):
            assert part.shard(client).tolist() == call.shard(first + client).tolist()
            if part.added is not None and call.added is not None:
                assert (part.added[part.places[client]] == call.added[call.places[first + client]]).all()
        put_back(call, piece, np.repeat(part.seeds[:, None], 3, axis=1).astype(np.float32), part.seeds.astype(float))
    assert groups == groups_of(call.sources, clients_at_once)
    assert (call.losses[call.places] == call.seeds).all()
    assert (call.deltas[call.places] == call.seeds[:, None]).all()


def test_each_worker_gets_several_pieces_and_none_is_larger_than_needed() -> None:
    call = call_of([1] * 400, 0, adds=False)
    assert len(list(pieces_of(call, clients_at_once=2, num_workers=4))) >= 8 * 4
    assert len(list(pieces_of(call, clients_at_once=2, num_workers=1_000))) == 200
