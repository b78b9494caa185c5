"""Clients that want the reward without the work. They do no harm but to slow the others and to be paid."""

from dataclasses import dataclass

import numpy as np

from fed_compute.simulator.attacks.attack import Attack, Sent, View


@dataclass(frozen=True, slots=True)
class FreeRider(Attack):
    """Send zeros: the model as it came. Source: "plain free-rider", Fraboni et al. 2021 (arXiv:2006.11901)."""

    def send(self, view: View, rng: np.random.Generator) -> Sent:
        return Sent(np.zeros_like(view.own), view.num_samples)


@dataclass(frozen=True, slots=True)
class DisguisedFreeRider(Attack):
    """Send the last global step again with a little noise on it, as if something had been learned.

    The noise is `noise` times the root mean square of that step, in each value; in the first round there is no step
    to copy and zeros go out. Sources: "delta weights" attack, Lin, Du, Liu 2019 (arXiv:1911.12560);
    disguise by noise, Fraboni et al. 2021 (arXiv:2006.11901).
    """

    noise: float = 0.1

    def send(self, view: View, rng: np.random.Generator) -> Sent:
        size = float(np.sqrt(np.square(view.last_step, dtype=np.float64).mean()))
        noise = rng.standard_normal(view.own.shape, dtype=np.float32) * np.float32(self.noise * size)
        return Sent(view.last_step + noise, view.num_samples)
