"""Which rows each of many clients takes in each step: the trainer's own batches, side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fed_compute.protocol.job import TrainingSection
from fed_compute.simulator.cohort.shards import Rows

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the first `active` clients, who each take up to B samples.

    `rows`, shape (active, B), int64: rows of the data set; a shorter batch is filled up with one of its client's
    rows. `weights`, shape (active, B), float32: a sample's part in the mean of its batch, 0 for what only fills up.
    """

    number: int
    active: int
    rows: torch.Tensor
    weights: torch.Tensor


class Timetable:
    """The steps of k clients of one data set, who must come in the order of their number of steps, most first.

    Each client's batches are those of `client.trainer` with the same seed: each epoch freshly shuffled, from one
    stream a client. `shares`, shape (k, T), float64: what the loss of a step counts in the mean loss per sample of a
    client's last epoch. Memory: 12 bytes for each sample of each step, on the device.
    """

    def __init__(
        self, shards: Sequence[Rows], seeds: Sequence[int], training: TrainingSection, device: torch.device
    ) -> None:
        sizes = np.array([len(shard) for shard in shards])
        batch = min(training.batch_size, int(sizes.max()))
        steps_per_epoch = -(-sizes // batch)
        self._num_steps = training.local_epochs * steps_per_epoch
        total = int(self._num_steps[0])
        rows = np.zeros((len(shards), total, batch), dtype=np.int64)
        self._counts = np.zeros((len(shards), total), dtype=np.int64)
        stream = torch.Generator()
        for client, (shard, seed) in enumerate(zip(shards, seeds, strict=True)):
            stream.manual_seed(seed)
            for steps in _epochs(int(steps_per_epoch[client]), training.local_epochs):
                places = rows[client, steps].reshape(-1)  # a view
                places[: len(shard)] = shard[torch.randperm(len(shard), generator=stream).numpy()]
                places[len(shard) :] = shard[0]
                self._counts[client, steps] = batch
                self._counts[client, steps.stop - 1] = len(shard) - batch * (steps.stop - steps.start - 1)
        self.shares = on_device(self._shares(sizes, steps_per_epoch), device)
        self._rows = on_device(rows, device)
        self._weights = on_device(self._sample_weights(batch), device)

    def __len__(self) -> int:
        return self._rows.shape[1]

    def __iter__(self) -> Iterator[Step]:
        for number in range(len(self)):
            active = int(np.count_nonzero(self._num_steps > number))
            longest = int(self._counts[:active, number].max())
            taken = (slice(active), number, slice(longest))
            yield Step(number, active, self._rows[taken], self._weights[taken])

    def _shares(self, sizes: npt.NDArray[np.int64], steps_per_epoch: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        numbers = np.arange(self._counts.shape[1])
        in_last_epoch = numbers >= (self._num_steps - steps_per_epoch)[:, None]
        shares: npt.NDArray[np.float64] = in_last_epoch * self._counts / sizes[:, None]
        return shares

    def _sample_weights(self, batch: int) -> Floats:
        counts = self._counts[:, :, None]
        weights: Floats = ((np.arange(batch) < counts) / np.maximum(counts, 1)).astype(np.float32)
        return weights


def _epochs(steps_per_epoch: int, local_epochs: int) -> Iterator[slice]:
    for first in range(0, local_epochs * steps_per_epoch, steps_per_epoch):
        yield slice(first, first + steps_per_epoch)


def on_device(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Return an array as a tensor there; a CPU shares its memory, CUDA gets a copy that nobody waits for."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
