"""Built-in models, many at once, as batched matrix products."""

import torch
from torch.nn import functional as F

from fed_compute.protocol.architectures import SmallCNNArguments
from fed_compute.protocol.job import Loss, ModelSection
from fed_compute.simulator.cohort.gradients import Dense, Gradient, Gradients, OuterProducts, Stacks

STACKED_LAYERS = ("linear", "simple_mlp")
"""The built-in models of affine layers, which are trained fastest in stacks."""
STACKED_MODELS = (*STACKED_LAYERS, "small_cnn")
"""The built-in models that can be stacked."""


def stacked_model(model: ModelSection, loss: Loss) -> Gradients:
    """Return what computes the gradients of one of `STACKED_MODELS`."""
    if model.name in STACKED_LAYERS:
        return StackedLayers(loss)
    return StackedConvolutions(SmallCNNArguments.model_validate(model.args), loss)


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


class StackedConvolutions:
    """The gradients of `small_cnn`: each convolution is a product of kernels and unfolded pictures.

    Worth it on CUDA, where the alternative is a convolution in as many groups as there are clients. On a CPU unfolding
    takes twice as long as the convolution of one client after the other.
    """

    def __init__(self, arguments: SmallCNNArguments, loss: Loss) -> None:
        self._image = (arguments.channels, arguments.height, arguments.width)
        self._loss = loss

    def __call__(
        self, parameters: Stacks, inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, list[Gradient]]:
        """Return losses and gradients; see `Gradients`."""
        leaves = [one.detach().requires_grad_() for one in parameters]
        kernel1, bias1, kernel2, bias2, *dense = leaves
        maps = inputs.float().reshape(*inputs.shape[:2], *self._image)
        values = _convolved(_convolved(maps, kernel1, bias1), kernel2, bias2).flatten(2)
        hidden = torch.baddbmm(dense[1].unsqueeze(1), values, dense[0].transpose(1, 2)).relu()
        outputs = torch.baddbmm(dense[3].unsqueeze(1), hidden, dense[2].transpose(1, 2))
        if self._loss == "cross_entropy":
            each = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none").reshape(targets.shape)
        else:
            each = (outputs - targets).square().mean(dim=2)
        losses = (each * weights).sum(dim=1)
        # Clients have nothing in common, so the gradient of the sum is the gradient of each.
        return losses.detach(), [Dense(one) for one in torch.autograd.grad(losses.sum(), leaves)]


def _convolved(maps: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Convolve, pool and rectify: (k, B, C, H, W) with k kernels (k, O, C, 3, 3) to (k, B, O, H // 2, W // 2)."""
    clients, batch, _, height, width = maps.shape
    patches = F.unfold(maps.flatten(0, 1), kernel_size=3, padding=1)
    patches = patches.reshape(clients, batch, *patches.shape[1:])  # (k, B, C·9, H·W)
    products = torch.matmul(kernel.flatten(2).unsqueeze(1), patches) + bias[:, None, :, None]
    pooled = F.relu(F.max_pool2d(products.reshape(clients * batch, -1, height, width), 2))
    return pooled.reshape(clients, batch, *pooled.shape[1:])


def _cross_entropy(
    outputs: torch.Tensor, classes: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted losses, (k,), and their gradient by the outputs, (k, B, K)."""
    picked, parts = classes.unsqueeze(2), weights.unsqueeze(2)
    logits = outputs - outputs.amax(dim=2, keepdim=True)
    powers = logits.exp()  # of all at once: twice as fast as log_softmax, which goes row by row
    sums = powers.sum(dim=2, keepdim=True)
    losses = ((sums.log() - logits.gather(2, picked)) * parts).sum(dim=(1, 2))
    return losses, powers.mul_(parts / sums).scatter_add_(2, picked, -parts)


def _mse(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weighted losses, (k,), and their gradient by the outputs, (k, B, K)."""
    difference = outputs - targets
    losses = (difference.square().mean(dim=2) * weights).sum(dim=1)
    return losses, difference.mul_(weights.unsqueeze(2) * (2 / outputs.shape[2]))
