"""Attackers who know the honest updates and hide among them or push against them, all with one voice."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from fed_compute.simulator.attacks.attack import Attack, Sent, View, mean_of_honest


@dataclass(frozen=True, slots=True)
class InnerProductManipulation(Attack):
    """Send -epsilon times the mean of the honest updates.

    A small epsilon hides near zero and turns rules that pick a point in the middle; a large one turns the mean
    itself as soon as epsilon · f > n - f. Source: Xie, Koyejo, Gupta 2019, "Fall of Empires" (arXiv:1903.03936).
    """

    epsilon: float = 0.1

    def send(self, view: View, rng: np.random.Generator) -> Sent:
        return Sent((-self.epsilon * mean_of_honest(view)).astype(np.float32), view.num_samples)


@dataclass(frozen=True, slots=True)
class ALittleIsEnough(Attack):
    """Send mean - z · standard deviation of the honest updates, value by value: as far off as still looks honest.

    z is the largest that leaves enough honest clients further out than the attackers to make a majority with them
    (`z_max`). The standard deviation is that of the given updates, divided by their number.
    Source: Baruch, Baruch, Goldberg 2019, "A Little Is Enough" (arXiv:1902.06156).
    """

    def send(self, view: View, rng: np.random.Generator) -> Sent:
        spread = view.honest.std(axis=0, dtype=np.float64)
        z = z_max(view.num_clients, view.num_attackers)
        return Sent((mean_of_honest(view) - z * spread).astype(np.float32), view.num_samples)


@dataclass(frozen=True, slots=True)
class Mimic(Attack):
    """Send the update of one honest client again, so that this client counts many times.

    Harmless while all data are alike; where they are not, it starves the others. `victim` is a place among the
    honest updates and stays the same over the rounds. Source: Karimireddy, He, Jaggi 2022
    (arXiv:2006.09365), where the victim is the client furthest along the direction in which the updates spread most.
    """

    victim: int = 0

    def send(self, view: View, rng: np.random.Generator) -> Sent:
        return Sent(view.honest[self.victim % len(view.honest)].copy(), view.num_samples)


def z_max(num_clients: int, num_attackers: int) -> float:
    """Return Φ⁻¹((n - f - s) / (n - f)) with s = ⌊n/2 + 1⌋ - f: n = 25, f = 5 gives 0.2533.

    0 where the formula has no answer: with no honest majority to win over, any z does, and the mean is the surest.

    Raises:
        ValueError: if there is no honest client.
    """
    honest = num_clients - num_attackers
    if honest < 1:
        raise ValueError(f"{num_attackers} of {num_clients} clients attack, wanted at least one honest")
    supporters = num_clients // 2 + 1 - num_attackers
    share = (honest - supporters) / honest
    return NormalDist().inv_cdf(share) if 0 < share < 1 else 0.0
