"""Models of affine layers with ReLU between them, many at once: forward and backward as batched matrix products."""

import torch
from torch.nn import functional as F

from fed_compute.protocol.job import Loss
from fed_compute.simulator.cohort.gradients import Dense, Gradient, OuterProducts, Stacks

STACKED_MODELS = ("linear", "simple_mlp")
"""Built-in models of that kind: their schema is weight and bias of each layer in turn."""


class StackedLayers:
    """The gradients of `linear` and `simple_mlp`, written out by hand.

    Autograd is not asked, so that the gradient of a weight can go into it without being stored first: a pass over
    memory less in each direction, which is what these models are bound by.
    """

    def __init__(self, loss: Loss) -> None:
        self._loss = loss

    @torch.no_grad()
    def __call__(
        self, parameters: Stacks, inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, list[Gradient]]:
        """Return losses and gradients; see `Gradients`."""
        kernels, biases = parameters[0::2], parameters[1::2]
        values = [inputs.flatten(2).float()]  # what goes into each layer, (k, B, i)
        for layer, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
            outputs = torch.baddbmm(bias.unsqueeze(1), values[-1], kernel.transpose(1, 2))
            values.append(outputs.relu_() if layer + 1 < len(kernels) else outputs)
        if self._loss == "cross_entropy":
            losses, slope = _cross_entropy(values[-1], targets, weights)
        else:
            losses, slope = _mse(values[-1], targets, weights)
        gradients: list[Gradient] = []
        for layer in reversed(range(len(kernels))):
            gradients += [Dense(slope.sum(dim=1)), OuterProducts(slope, values[layer])]
            if layer:
                slope = torch.ops.aten.threshold_backward(torch.bmm(slope, kernels[layer]), values[layer], 0)
        return losses, gradients[::-1]


def _cross_entropy(
    outputs: torch.Tensor, classes: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted losses, (k,), and their gradient by the outputs, (k, B, K)."""
    logs, picked = F.log_softmax(outputs, dim=2), classes.unsqueeze(2)
    losses = -(logs.gather(2, picked).squeeze(2) * weights).sum(dim=1)
    slope = logs.exp_()
    slope.scatter_add_(2, picked, torch.full_like(picked, -1, dtype=slope.dtype))
    return losses, slope.mul_(weights.unsqueeze(2))


def _mse(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted losses, (k,), and their gradient by the outputs, (k, B, K)."""
    difference = outputs - targets
    losses = (difference.square().mean(dim=2) * weights).sum(dim=1)
    return losses, difference.mul_(weights.unsqueeze(2) * (2 / outputs.shape[2]))
