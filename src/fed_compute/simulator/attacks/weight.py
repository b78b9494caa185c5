"""Attackers who make one update outweigh all others: by its length, or by the sample count claimed with it."""

from dataclasses import dataclass

import numpy as np

from fed_compute.learning.aggregation.influence import MAX_NUM_SAMPLES
from fed_compute.simulator.attacks.attack import Attack, Classes, Sent, View
from fed_compute.simulator.attacks.flips import flip_classes


@dataclass(frozen=True, slots=True)
class Scaling(Attack):
    """Train on flipped labels, and send the update times the number of clients: model replacement.

    In a mean of n updates one such client replaces the next model by its own; several overshoot. `factor` None means
    that number n. Source: Bagdasaryan et al. 2020, γ = n / η with server rate η = 1 (arXiv:1807.00459).
    """

    factor: float | None = None

    def relabel(self, classes: Classes, *, num_classes: int) -> Classes:
        return flip_classes(classes, num_classes=num_classes)

    def send(self, view: View, rng: np.random.Generator) -> Sent:
        return Sent(view.own * np.float32(view.num_clients if self.factor is None else self.factor), view.num_samples)


@dataclass(frozen=True, slots=True)
class SampleCountLie(Attack):
    """Train on flipped labels, and claim as many samples as the coordinator's arithmetic allows.

    The update itself looks like any other; only a weighted mean believes the count. Source: the weights of federated
    averaging are whatever the client says, McMahan et al. 2017, Algorithm 1 (arXiv:1602.05629).
    """

    claimed_samples: int = MAX_NUM_SAMPLES

    def relabel(self, classes: Classes, *, num_classes: int) -> Classes:
        return flip_classes(classes, num_classes=num_classes)

    def send(self, view: View, rng: np.random.Generator) -> Sent:
        return Sent(view.own, self.claimed_samples)
