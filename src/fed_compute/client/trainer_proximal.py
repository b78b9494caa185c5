"""The proximal term: what pulls a training back to the global model."""

from collections.abc import Iterable

import torch
from torch import nn


class ProximalTerm:
    """Adds μ (w - w₀) to the gradients, where w₀ is what the parameters are when this is made.

    Source: FedProx, Li et al. 2020, section 3.2 (arXiv:1812.06127): the gradient of μ/2 · ‖w - w₀‖², which keeps a
    client with many steps, or with odd data, near the global model.
    Memory: one more vector as long as the parameters, and for each step one more as long as the longest of them.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], mu: float) -> None:
        self._mu = mu
        self._pairs = [(one, one.detach().clone()) for one in parameters]

    @torch.no_grad()
    def add_gradient(self) -> None:
        """Add the term's gradient to those that there are. A parameter that has none is not moved, so it needs none."""
        for parameter, start in self._pairs:
            if parameter.grad is not None:
                parameter.grad = (parameter - start).mul_(self._mu).add_(parameter.grad)
