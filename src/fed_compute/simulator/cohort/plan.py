"""By which path a cohort trains, and how many clients at once. The choice is data: one word in a report."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

from fed_compute.errors import CohortUnsupported

_STACK_BYTES = {"cpu": 4 << 20, "cuda": 512 << 20}
_LARGEST_STACK = {"cpu": 64, "cuda": 4_096}


class TrainingPath(StrEnum):
    """A way from the same parameters, data and seeds to the same deltas."""

    STACKED = "stacked"
    """Batched matrix products over the parameters of many clients: models of affine layers."""
    VMAP = "vmap"
    """`torch.func.vmap` over the module: any module without buffers, chance or data-dependent branches."""
    LOOPED = "looped"
    """One client after the other through one module: any module without buffers or chance."""
    SEQUENTIAL = "sequential"
    """The client's own trainer, one client after the other: everything that a client can train."""


@dataclass(frozen=True)
class Plan:
    """A path and how many clients it takes at once, written `stacked:10`. `looped` and `sequential` take one.

    Which clients share a stack changes the rounding of their results, so the plan is part of what has to be
    repeated to repeat a run byte for byte. The number of processes is not.
    """

    path: TrainingPath
    clients_at_once: int = 1

    def __post_init__(self) -> None:
        if self.clients_at_once < 1:
            raise CohortUnsupported(f"a training path takes at least 1 client at once, found {self.clients_at_once}")
        if self.clients_at_once > 1 and self.path in (TrainingPath.LOOPED, TrainingPath.SEQUENTIAL):
            raise CohortUnsupported(f"path {self.path} takes 1 client at once, found {self.clients_at_once}")

    def __str__(self) -> str:
        return self.path if self.clients_at_once == 1 else f"{self.path}:{self.clients_at_once}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `path` or `path:clients_at_once`.

        Raises:
            CohortUnsupported: if it is none, naming the paths.
        """
        path, colon, number = text.partition(":")
        if path not in list(TrainingPath) or (colon and not (number.isascii() and number.isdigit())):
            wanted = ", ".join(TrainingPath)
            raise CohortUnsupported(f"{text[:80]!r} is no training path; wanted one of {wanted}, or stacked:10")
        return cls(TrainingPath(path), int(number) if colon else 1)


def stack_size(num_parameters: int, *, device: Literal["cpu", "cuda"] = "cpu") -> int:
    """Return how many clients' parameters to take at once.

    On a CPU as many as fit a core's share of the cache, at most 64; on CUDA as many as keep the device busy while the
    results of the ones before travel to the host, at most 4,096.
    """
    fitting = round(_STACK_BYTES[device] / (4 * num_parameters))
    return max(1, min(_LARGEST_STACK[device], fitting))
