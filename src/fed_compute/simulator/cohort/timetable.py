"""Which rows each of many clients takes in each step: the trainer's own batches, side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fed_compute.protocol.job import TrainingSection
from fed_compute.simulator.cohort.shards import Rows

_REMEMBERED_FORMS = 8
"""Of clients that are trained together, by their numbers of samples: most are alike."""


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
        sizes = tuple(len(shard) for shard in shards)
        self._form = form = _form_of(sizes, training.batch_size, training.local_epochs, device)
        rows = np.empty((len(shards), len(form.active), form.batch), dtype=np.int64)
        stream = torch.Generator()
        for client, (shard, seed) in enumerate(zip(shards, seeds, strict=True)):
            stream.manual_seed(seed)
            own, size = rows[client].reshape(-1), len(shard)  # a view
            length = form.batch * int(form.steps_per_epoch[client])
            for start in range(0, length * training.local_epochs, length):
                own[start : start + size] = shard[torch.randperm(size, generator=stream).numpy()]
                own[start + size : start + length] = shard[0]
            own[length * training.local_epochs :] = 0
        self.shares = form.shares
        self._rows = on_device(rows, device)

    def __len__(self) -> int:
        return len(self._form.active)

    def __iter__(self) -> Iterator[Step]:
        for number, (active, longest) in enumerate(zip(self._form.active, self._form.longest, strict=True)):
            taken = (slice(active), number, slice(longest))
            yield Step(number, active, self._rows[taken], self._form.weights[taken])


@dataclass(frozen=True, eq=False)
class _Form:
    """What follows of a timetable from the clients' numbers of samples alone.

    `batch` is the longest batch, B. For each of T steps: how many clients take part, and the longest batch among them.
    `shares`, shape (k, T), and `weights`, shape (k, T, B), are as in `Timetable` and `Step`.
    """

    batch: int
    steps_per_epoch: npt.NDArray[np.int64]
    active: list[int]
    longest: list[int]
    shares: torch.Tensor
    weights: torch.Tensor


@lru_cache(maxsize=_REMEMBERED_FORMS)
def _form_of(numbers: tuple[int, ...], batch_size: int, local_epochs: int, device: torch.device) -> _Form:
    sizes = np.array(numbers)
    batch = min(batch_size, int(sizes.max()))
    steps_per_epoch = -(-sizes // batch)
    num_steps = local_epochs * steps_per_epoch
    steps = np.arange(num_steps[0])
    takes_part = steps < num_steps[:, None]
    is_last = (steps % steps_per_epoch[:, None]) == steps_per_epoch[:, None] - 1
    last = sizes - batch * (steps_per_epoch - 1)
    counts = np.where(is_last, last[:, None], batch) * takes_part
    in_last_epoch = steps >= (num_steps - steps_per_epoch)[:, None]
    shares = in_last_epoch * counts / sizes[:, None]
    weights = (np.arange(batch) < counts[:, :, None]) / np.maximum(counts, 1)[:, :, None]
    return _Form(
        batch,
        steps_per_epoch,
        active=takes_part.sum(axis=0).tolist(),
        longest=counts.max(axis=0).tolist(),
        shares=on_device(shares, device),
        weights=on_device(weights.astype(np.float32), device),
    )


def on_device(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """Return an array as a tensor there; a CPU shares its memory, CUDA gets a copy that nobody waits for."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
