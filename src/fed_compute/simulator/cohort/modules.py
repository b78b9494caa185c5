"""Gradients of any torch module: of many clients by `vmap`, or of one client by autograd."""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from fed_compute.protocol.job import Loss
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.simulator.cohort.gradients import Dense, Gradient, Stacks


class VmappedModule:
    """One module applied with the parameters of many clients at once, by `torch.func.vmap`.

    The module must compute each sample alone, without chance, buffers or branches that depend on values.
    """

    def __init__(self, module: nn.Module, schema: ParameterSchema, loss: Loss) -> None:
        self._module = module.train()
        self._names = [parameter.name for parameter in schema.parameters]
        self._loss = loss
        self._gradient: Callable[..., tuple[Mapping[str, torch.Tensor], torch.Tensor]] = vmap(grad_and_value(self._one))

    def __call__(
        self, parameters: Stacks, inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, list[Gradient]]:
        """Return losses and gradients; see `Gradients`."""
        named = dict(zip(self._names, parameters, strict=True))
        with sdpa_kernel(SDPBackend.MATH):  # the one form of attention that vmap has a rule for
            gradients, losses = self._gradient(named, inputs, targets, weights)
        return losses, [Dense(gradients[name]) for name in self._names]

    def _one(
        self,
        parameters: Mapping[str, torch.Tensor],
        inputs: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        outputs: torch.Tensor = functional_call(self._module, dict(parameters), (inputs,))
        if self._loss == "cross_entropy":
            each = F.cross_entropy(outputs, targets, reduction="none")
        else:
            each = (outputs - targets).square().mean(dim=1)
        return each @ weights


class LoopedModule:
    """One module that takes the parameters of one client after the other; k is 1 in each call.

    The module's parameters become views of the stacks, so nothing is copied in or out.
    """

    def __init__(self, module: nn.Module, schema: ParameterSchema, loss: Loss) -> None:
        self._module = module.train()
        by_name = dict(module.named_parameters())
        self._parameters = [by_name[parameter.name] for parameter in schema.parameters]
        self._loss = loss

    def __call__(
        self, parameters: Stacks, inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, list[Gradient]]:
        """Return loss and gradients; see `Gradients`. A batch of one client has nothing that fills up."""
        for own, stack in zip(self._parameters, parameters, strict=True):
            own.data = stack[0]
        outputs = self._module(inputs[0])
        wanted = targets[0]
        loss = F.cross_entropy(outputs, wanted) if self._loss == "cross_entropy" else F.mse_loss(outputs, wanted)
        gradients = torch.autograd.grad(loss, self._parameters)
        return loss.detach().reshape(1), [Dense(gradient.unsqueeze(0)) for gradient in gradients]


def why_not_looped(module: nn.Module, schema: ParameterSchema) -> str | None:
    """Say what keeps a module from sharing its code among clients, or None.

    Not seen here are chance and sparse gradients; whoever measures the paths compares their results as well.
    """
    if buffers := [name for name, _ in module.named_buffers()]:
        return f"the model keeps buffers ({buffers[0]})"
    parameters = dict(module.named_parameters())
    if missing := {parameter.name for parameter in schema.parameters} ^ parameters.keys():
        return f"parameter {min(missing)} is shared between layers, or not in the schema"
    if frozen := [name for name, parameter in parameters.items() if not parameter.requires_grad]:
        return f"parameter {frozen[0]} is frozen"
    return None
