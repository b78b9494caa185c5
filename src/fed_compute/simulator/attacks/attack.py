"""What an attack is: what a lying client sees, and what it sends instead of the truth."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fed_compute.learning.vectors import Vector, Vector64

Stack = npt.NDArray[np.float32]
"""Shape (n, P), float32: one update in each row."""
Classes = npt.NDArray[np.int64]
"""Shape (N,), int64: the class of each sample."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """All that an attacker can know in one round. More than a real one would: the tests want the worst case.

    `honest`, shape (n, P), n ≥ 1: what the honest clients send in this round.
    `own`, shape (P,): what the attacker's own training gave, on its labels as `Attack.relabel` left them.
    `last_step`, shape (P,): the global parameters minus those of the round before; zeros in the first round.
    `num_samples`: how many samples the attacker has. `num_clients`: all clients of the round.
    `num_attackers`: those of them who lie, and lie together.
    """

    honest: Stack
    own: Vector
    last_step: Vector
    num_samples: int
    num_clients: int
    num_attackers: int

    def __post_init__(self) -> None:
        if self.honest.ndim != 2 or len(self.honest) == 0:
            raise ValueError(f"honest has shape {self.honest.shape}, wanted (n, P) with at least one row")
        for name, vector in (("own", self.own), ("last_step", self.last_step)):
            if vector.shape != self.honest.shape[1:]:
                raise ValueError(f"{name} has shape {vector.shape}, wanted {self.honest.shape[1:]} as in honest")


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """What goes to the coordinator: `delta`, shape (P,), float32, and the sample count that is claimed with it."""

    delta: Vector
    num_samples: int


class Attack:
    """A client's way of lying. This one tells the truth; each attack changes one thing.

    An attack is a value: the same view and the same state of `rng` give the same bytes, and no argument is changed.
    """

    __slots__ = ()

    def relabel(self, classes: Classes, *, num_classes: int) -> Classes:
        """Return the classes that the attacker trains on instead of its own."""
        return classes

    def send(self, view: View, rng: np.random.Generator) -> Sent:
        """Return what the attacker sends in this round."""
        return Sent(view.own, view.num_samples)


def mean_of_honest(view: View) -> Vector64:
    """Return the unweighted mean of the honest updates, shape (P,), in float64."""
    mean: Vector64 = view.honest.mean(axis=0, dtype=np.float64)
    return mean
