"""The correction of SCAFFOLD: what turns a client's steps from its own optimum towards everybody's."""

from collections.abc import Mapping

import torch
from torch import nn

from fed_compute.protocol.schema import ParameterSchema, Vector


class Correction:
    """Adds the same vector to the gradients of each step.

    Source: SCAFFOLD, Karimireddy et al. 2020 (arXiv:1910.06378): c - cᵢ. Memory: that vector, on the device.
    """

    def __init__(self, module: nn.Module, schema: ParameterSchema, added: Vector) -> None:
        """Take `added`, shape (P,), apart. What of it belongs to no parameter (buffers) is of no use."""
        pieces: Mapping[str, Vector] = schema.split(added)
        self._pairs = [
            (one, torch.from_numpy(pieces[name].copy()).to(one.device))
            for name, one in module.named_parameters()
            if name in pieces
        ]

    @torch.no_grad()
    def add_gradient(self) -> None:
        """Add to the gradients that there are. A parameter that has none is not moved."""
        for parameter, piece in self._pairs:
            if parameter.grad is not None:
                parameter.grad = piece + parameter.grad
