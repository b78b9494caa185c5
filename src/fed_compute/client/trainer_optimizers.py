"""A job's optimiser: PyTorch's own arithmetic without the classes of `torch.optim`.

The first of those that is made loads PyTorch's compiler, which nothing here uses: eight hundred modules, as long to
import as PyTorch itself. The functions beneath them do not, and give the same bits.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from fed_compute.protocol.job import TrainingSection

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(slots=True, eq=False)
class _Momentum:
    """A parameter and the decaying sum of its gradients, None before the first."""

    parameter: nn.Parameter
    total: torch.Tensor | None = None


@dataclass(slots=True, eq=False)
class _Moments:
    """A parameter, the decaying means of its gradients and of their squares, and how many there were."""

    parameter: nn.Parameter
    mean: torch.Tensor
    mean_square: torch.Tensor
    steps: torch.Tensor


def make_step(parameters: Iterable[nn.Parameter], training: TrainingSection) -> Callable[[], None]:
    """Return what moves the parameters, in place, by their gradients. One that has no gradient stays as it is.

    With the defaults of `torch.optim.SGD`, `Adam` (Kingma and Ba 2015, arXiv:1412.6980) and `AdamW` (Loshchilov and
    Hutter 2019, arXiv:1711.05101), bit for bit. Memory: one more vector as long as the parameters for momentum, two
    for Adam and AdamW.
    """
    match training.optimizer:
        case "sgd":
            return partial(_sgd_step, [_Momentum(parameter) for parameter in parameters], training)
        case "adam":
            return partial(_adam_step, _no_moments(parameters), training, adam)
        case "adamw":
            return partial(_adam_step, _no_moments(parameters), training, adamw)


def _no_moments(parameters: Iterable[nn.Parameter]) -> list[_Moments]:
    return [_Moments(one, torch.zeros_like(one), torch.zeros_like(one), torch.tensor(0.0)) for one in parameters]


@torch.no_grad()
def _sgd_step(states: list[_Momentum], training: TrainingSection) -> None:
    moving = [(state, gradient) for state in states if (gradient := state.parameter.grad) is not None]
    totals = [state.total for state, _ in moving]
    sgd(
        [state.parameter for state, _ in moving],
        [gradient for _, gradient in moving],
        totals,
        has_sparse_grad=any(gradient.is_sparse for _, gradient in moving),
        lr=training.lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        dampening=0.0,
        nesterov=False,
        maximize=False,
    )
    for (state, _), total in zip(moving, totals, strict=True):
        state.total = total


@torch.no_grad()
def _adam_step(states: list[_Moments], training: TrainingSection, function: Callable[..., None]) -> None:
    moving = [(state, gradient) for state in states if (gradient := state.parameter.grad) is not None]
    function(
        [state.parameter for state, _ in moving],
        [gradient for _, gradient in moving],
        [state.mean for state, _ in moving],
        [state.mean_square for state, _ in moving],
        [],
        [state.steps for state, _ in moving],
        lr=training.lr,
        beta1=_BETA1,
        beta2=_BETA2,
        eps=_EPSILON,
        weight_decay=training.weight_decay,
        amsgrad=False,
        maximize=False,
    )
