"""From shards to a call: who trains next to whom, on which data set."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fed_compute.client.datasets import Dataset
from fed_compute.errors import DatasetInvalid
from fed_compute.protocol.job import TrainingSection
from fed_compute.protocol.schema import Vector
from fed_compute.simulator.cohort.calls import Call, Numbers, training_order
from fed_compute.simulator.cohort.shards import Rows, Shard

_SEEDS = 2**63  # as many as a generator takes


def arrange(
    base: Vector,
    shards: Sequence[Shard],
    seeds: Sequence[int],
    training: TrainingSection,
    *,
    known: Sequence[Dataset],
    deltas: npt.NDArray[np.float32],
    losses: npt.NDArray[np.float64],
    added: npt.NDArray[np.float32] | None,
) -> Call:
    """Return the call that trains the shards. Those of data sets that are not `known` are copied, like next to like.

    Raises:
        DatasetInvalid: if a shard is empty.
    """
    if empty := [number for number, shard in enumerate(shards) if len(shard) == 0]:
        raise DatasetInvalid(f"client {empty[0]} of {len(shards)} has no samples; each needs at least 1")
    datasets, sources, rows = _by_source(shards, known)
    num_steps = np.array([training.num_steps(len(shard)) for shard in shards], dtype=np.int64)
    order = training_order(sources, num_steps)
    ordered = [rows[client] for client in order]
    return Call(
        base=base,
        datasets=datasets,
        sources=sources[order],
        rows=np.concatenate(ordered),
        bounds=np.concatenate([[0], np.cumsum([len(one) for one in ordered])]),
        seeds=np.array([seed % _SEEDS for seed in seeds], dtype=np.int64)[order],
        places=order,
        added=added,
        deltas=deltas,
        losses=losses,
    )


def _by_source(shards: Sequence[Shard], known: Sequence[Dataset]) -> tuple[tuple[Dataset, ...], Numbers, list[Rows]]:
    """Return the data sets, and for each shard its number among them and its rows there."""
    numbers = {dataset: number for number, dataset in enumerate(known)}
    visitors: dict[tuple[object, ...], list[int]] = {}
    for client, shard in enumerate(shards):
        if shard.dataset not in numbers:
            visitors.setdefault(_kind(shard.dataset), []).append(client)
    sources = np.array([numbers.get(shard.dataset, -1) for shard in shards], dtype=np.int64)
    rows = [np.asarray(shard.rows, dtype=np.int64) for shard in shards]
    datasets = list(known)
    for clients in visitors.values():
        parts = [shards[client].samples() for client in clients]
        first = 0
        for client, part in zip(clients, parts, strict=True):
            sources[client], rows[client] = len(datasets), np.arange(first, first + len(part))
            first += len(part)
        x, y = np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts])
        datasets.append(Dataset(x, y, parts[0].name))
    return tuple(datasets), sources, rows


def _kind(dataset: Dataset) -> tuple[object, ...]:
    return dataset.x.dtype, dataset.x.shape[1:], dataset.y.dtype, dataset.y.shape[1:]
