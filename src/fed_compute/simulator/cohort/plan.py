"""By which path a cohort trains, and how many clients at once. The choice is data: one word in a report."""

import difflib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal, Self

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


Steady = Literal["steady"]
STEADY: Final[Steady] = "steady"
"""Stands for the plan that follows from model and data without measuring any time; see `calibration.settle`."""

_ONE_AT_ONCE = (TrainingPath.LOOPED, TrainingPath.SEQUENTIAL)


@dataclass(frozen=True)
class Plan:
    """A path and how many clients it takes at once, written `stacked:10`. `looped` and `sequential` take one.

    Without a number the engine fills in how many fit. Which clients share a stack changes the rounding of their
    results, so the plan is part of what has to be repeated to repeat a run byte for byte; the number of processes is
    not.
    """

    path: TrainingPath
    clients_at_once: int | None = None

    def __post_init__(self) -> None:
        if self.clients_at_once is not None and (self.clients_at_once < 1 or self.path in _ONE_AT_ONCE):
            wanted = "no number" if self.path in _ONE_AT_ONCE else "1 or more"
            raise CohortUnsupported(f"path {self.path} takes {wanted} of clients, found {self.clients_at_once}")

    def __str__(self) -> str:
        return self.path if self.clients_at_once is None else f"{self.path}:{self.clients_at_once}"

    @property
    def num_clients(self) -> int:
        """How many clients are trained at once."""
        return self.clients_at_once or 1

    def filled(self, fitting: int) -> Self:
        """Return the plan with `fitting` clients at once where it says no number and takes more than one."""
        if self.clients_at_once is not None or self.path in _ONE_AT_ONCE:
            return self
        return replace(self, clients_at_once=fitting)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `path` or `path:clients_at_once`.

        Raises:
            CohortUnsupported: if it is none, naming the paths.
        """
        path, colon, number = text.partition(":")
        if path not in list(TrainingPath) or (colon and not (number.isascii() and number.isdigit())):
            nearest = difflib.get_close_matches(path, list(TrainingPath), n=1) if path not in list(TrainingPath) else []
            hint = f", did you mean {str(nearest[0])!r}?" if nearest else ";"
            wanted = ", ".join(TrainingPath)
            raise CohortUnsupported(f"{text[:80]!r} is no training path{hint} wanted one of {wanted}, or stacked:10")
        return cls(TrainingPath(path), int(number) if colon else None)


def stack_size(num_parameters: int, *, device: Literal["cpu", "cuda"] = "cpu") -> int:
    """Return how many clients' parameters to take at once.

    On a CPU as many as fit a core's share of the cache, at most 64; on CUDA as many as keep the device busy while the
    results of the ones before travel to the host, at most 4,096.
    """
    fitting = round(_STACK_BYTES[device] / (4 * num_parameters))
    return max(1, min(_LARGEST_STACK[device], fitting))
