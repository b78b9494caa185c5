"""Noise instead of an update."""

from dataclasses import dataclass

import numpy as np

from fed_compute.simulator.attacks.attack import Attack, Sent, View


@dataclass(frozen=True, slots=True)
class Gaussian(Attack):
    """Send N(0, sigma²) in each value, and nothing learned.

    `sigma` is in the unit of the update: where updates are lr times a gradient, it is lr times the sigma of papers
    that attack gradients. Source: "Gaussian Byzantine workers", Blanchard et al. 2017 (arXiv:1703.02757).
    """

    sigma: float = 1.0

    def send(self, view: View, rng: np.random.Generator) -> Sent:
        noise = rng.standard_normal(view.own.shape, dtype=np.float32)
        return Sent(noise * np.float32(self.sigma), view.num_samples)
