"""What a step of many clients gives: a loss and gradients for each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

Stacks = Sequence[torch.Tensor]
"""One tensor (k, …) for each parameter of the model, in the schema's order: k clients' values of it."""


def first_of(stacks: list[torch.Tensor], count: int) -> list[torch.Tensor]:
    """Return the values of the first clients."""
    return stacks if stacks and stacks[0].shape[0] == count else [one[:count] for one in stacks]


@dataclass(frozen=True, eq=False)
class OuterProducts:
    """A gradient not yet multiplied out: leftᵀ · right for each client, (k, B, o) and (k, B, i) to (k, o, i)."""

    left: torch.Tensor
    right: torch.Tensor

    def dense(self) -> torch.Tensor:
        """Return the gradient as a tensor."""
        return torch.bmm(self.left.transpose(1, 2), self.right)

    def descend(self, parameter: torch.Tensor, *, lr: float, keep: float) -> None:
        """Set the parameter to keep · parameter - lr · gradient, in one pass over its memory."""
        parameter.baddbmm_(self.left.transpose(1, 2), self.right, beta=keep, alpha=-lr)


@dataclass(frozen=True, eq=False)
class Dense:
    """A gradient as a tensor, (k, …)."""

    tensor: torch.Tensor

    def dense(self) -> torch.Tensor:
        """Return the gradient as a tensor."""
        return self.tensor

    def descend(self, parameter: torch.Tensor, *, lr: float, keep: float) -> None:
        """Set the parameter to keep · parameter - lr · gradient."""
        parameter.mul_(keep).sub_(self.tensor, alpha=lr) if keep != 1 else parameter.sub_(self.tensor, alpha=lr)


Gradient = OuterProducts | Dense


class Gradients(Protocol):
    """Computes the gradients of k clients, each on its own batch."""

    def __call__(
        self, parameters: Stacks, inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, list[Gradient]]:
        """Return the losses, shape (k,), and one gradient for each parameter.

        `inputs` has shape (k, B, …), `targets` (k, B) with classes or (k, B, K) with numbers, `weights` (k, B),
        float32, sums to 1 in each row.
        """
        ...
