"""The state of a training on the disk, so that a client that was killed goes on where it was.

A checkpoint is worth the time since the one before, and costs the time to write it. So it is not made durable: after a
power cut it may be missing or torn, which is noticed, and the training begins anew.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fed_compute.client.sealed_files import Sealed, TornFile, read_sealed, write_sealed
from fed_compute.clock import Clock

if TYPE_CHECKING:
    from fed_compute.client.observer import ClientObserver

COST_RATIO = 20.0
"""Between two checkpoints lies at least so many times as long as the last one took to make."""

DISK_BYTES_PER_SECOND = 4e6
"""No more than this is written on average, whatever the model's size: solid-state disks wear out."""


@dataclass(frozen=True, slots=True, eq=False)
class RawTensor:
    """A tensor as it lies in memory: `dtype` as PyTorch names it, such as `float32`."""

    dtype: str
    shape: tuple[int, ...]
    content: memoryview


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A training after `steps_done` batches and `seconds`. `loss_sum` is of the epoch that these batches end in."""

    steps_done: int
    loss_sum: float
    seconds: float
    tensors: Mapping[str, RawTensor]


def is_due(
    seconds: float, *, every_seconds: float, cost_seconds: float, num_bytes: int, epoch_ended: bool = False
) -> bool:
    """Say whether to make a checkpoint, so many `seconds` after the last one, which had this cost and size.

    Every `every_seconds` and at the end of each epoch, but no more often than `COST_RATIO` and
    `DISK_BYTES_PER_SECOND` allow.
    """
    least = max(COST_RATIO * cost_seconds, num_bytes / DISK_BYTES_PER_SECOND)
    return seconds >= (least if epoch_ended else max(every_seconds, least))


class Checkpointer:
    """Keeps the last checkpoint of one training in a file.

    `plan` stands for all that the training follows from. A file of another plan is as good as none.
    """

    def __init__(
        self, file: Path, *, plan: str, clock: Clock, observer: "ClientObserver", every_seconds: float = 0.0
    ) -> None:
        self._file = file
        self._plan = plan
        self._clock = clock
        self._observer = observer
        self._every_seconds = every_seconds
        self._last = clock.monotonic()
        self._cost_seconds = 0.0
        self._num_bytes = 0

    def resume(self, take: Callable[[Checkpoint], bool]) -> None:
        """Hand the last checkpoint to `take`, which says whether it goes on from it.

        One that is torn, or of another plan, is not handed on.
        """
        try:
            found = read_sealed(self._file)
        except FileNotFoundError:
            return
        except (OSError, TornFile) as error:
            self._observer.event("checkpoint_failed", why=str(error))
            return
        if found.head["plan"] == self._plan and take(checkpoint := _opened(found)):
            self._observer.event("training_resumed", steps_done=checkpoint.steps_done, seconds=checkpoint.seconds)

    def offer(self, make: Callable[[], Checkpoint], *, epoch_ended: bool) -> None:
        """Put a new checkpoint in the place of the last one, if it is due; else this costs next to nothing.

        A disk that is full is told, and the training goes on.
        """
        began = self._clock.monotonic()
        if not is_due(
            began - self._last,
            every_seconds=self._every_seconds,
            cost_seconds=self._cost_seconds,
            num_bytes=self._num_bytes,
            epoch_ended=epoch_ended,
        ):
            return
        try:
            self._num_bytes = _write(self._file, self._plan, make())
        except OSError as error:
            self._observer.event("checkpoint_failed", why=f"{self._file} cannot be written: {error}")
        self._last = self._clock.monotonic()
        self._cost_seconds = self._last - began


def _write(file: Path, plan: str, checkpoint: Checkpoint) -> int:
    head = {
        "plan": plan,
        "steps_done": checkpoint.steps_done,
        "loss_sum": checkpoint.loss_sum,
        "seconds": checkpoint.seconds,
        "tensors": [[name, raw.dtype, raw.shape] for name, raw in checkpoint.tensors.items()],
    }
    return write_sealed(file, head, [raw.content for raw in checkpoint.tensors.values()], durable=False)


def _opened(sealed: Sealed) -> Checkpoint:
    head = sealed.head
    tensors = {
        name: RawTensor(dtype, tuple(shape), content)
        for (name, dtype, shape), content in zip(head["tensors"], sealed.parts, strict=True)
    }
    return Checkpoint(head["steps_done"], head["loss_sum"], head["seconds"], tensors)
