"""A job's optimiser: PyTorch's own arithmetic without the classes of `torch.optim`.

The first of those that is made loads PyTorch's compiler, which nothing here uses: eight hundred modules, as long to
import as PyTorch itself. The functions beneath them do not, and give the same bits.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import torch
from torch import nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from fed_compute.protocol.job import TrainingSection

ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8


class Optimizer(Protocol):
    """Moves parameters, in place, by their gradients. One that has no gradient stays as it is."""

    def step(self) -> None:
        """Move the parameters once."""
        ...

    def state(self) -> dict[str, torch.Tensor]:
        """Return what the next steps depend on beside parameters and gradients: views, not copies."""
        ...

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from a `state` of the same optimiser on parameters of the same shapes."""
        ...


def make_optimizer(parameters: Iterable[nn.Parameter], training: TrainingSection) -> Optimizer:
    """Return the optimiser that a job names.

    With the defaults of `torch.optim.SGD`, `Adam` (Kingma and Ba 2015, arXiv:1412.6980) and `AdamW` (Loshchilov and
    Hutter 2019, arXiv:1711.05101), bit for bit. Memory: one more vector as long as the parameters for momentum, two
    for Adam and AdamW.
    """
    match training.optimizer:
        case "sgd":
            return _Sgd(parameters, training)
        case "adam":
            return _Adam(parameters, training, adam)
        case "adamw":
            return _Adam(parameters, training, adamw)


class _Sgd:
    """With momentum, it keeps of each parameter the decaying sum of its gradients, from the first one on."""

    def __init__(self, parameters: Iterable[nn.Parameter], training: TrainingSection) -> None:
        self._parameters = list(parameters)
        self._totals: list[torch.Tensor | None] = [None] * len(self._parameters)
        self._training = training

    @torch.no_grad()
    def step(self) -> None:
        moving = _moving(self._parameters)
        gradients, totals = list(moving.values()), [self._totals[index] for index in moving]
        sgd(
            [self._parameters[index] for index in moving],
            gradients,
            totals,
            has_sparse_grad=any(gradient.is_sparse for gradient in gradients),
            lr=self._training.lr,
            momentum=self._training.momentum,
            weight_decay=self._training.weight_decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        for index, total in zip(moving, totals, strict=True):
            self._totals[index] = total

    def state(self) -> dict[str, torch.Tensor]:
        return {f"{index}.total": total.to_dense() for index, total in enumerate(self._totals) if total is not None}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        for index, parameter in enumerate(self._parameters):
            total = state.get(f"{index}.total")
            self._totals[index] = None if total is None else total.to(parameter.device)


class _Adam:
    """Keeps of each parameter the decaying means of its gradients and of their squares, and how many there were."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], training: TrainingSection, function: Callable[..., None]
    ) -> None:
        self._parameters = list(parameters)
        self._means = [torch.zeros_like(one) for one in self._parameters]
        self._mean_squares = [torch.zeros_like(one) for one in self._parameters]
        self._steps = [torch.tensor(0.0) for _ in self._parameters]
        self._training = training
        self._function = function

    @torch.no_grad()
    def step(self) -> None:
        moving = _moving(self._parameters)
        self._function(
            [self._parameters[index] for index in moving],
            list(moving.values()),
            [self._means[index] for index in moving],
            [self._mean_squares[index] for index in moving],
            [],
            [self._steps[index] for index in moving],
            lr=self._training.lr,
            beta1=ADAM_BETA1,
            beta2=ADAM_BETA2,
            eps=ADAM_EPSILON,
            weight_decay=self._training.weight_decay,
            amsgrad=False,
            maximize=False,
        )

    def state(self) -> dict[str, torch.Tensor]:
        kept = {"mean": self._means, "mean_square": self._mean_squares, "steps": self._steps}
        return {f"{index}.{name}": tensor for name, tensors in kept.items() for index, tensor in enumerate(tensors)}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def _moving(parameters: list[nn.Parameter]) -> dict[int, torch.Tensor]:
    """Return the gradients that there are, by the parameter's index."""
    return {index: one.grad for index, one in enumerate(parameters) if one.grad is not None}
