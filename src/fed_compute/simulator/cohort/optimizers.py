"""The trainer's optimisers on the parameters of many clients: PyTorch's own arithmetic, client by client."""

from collections.abc import Sequence

import torch
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from fed_compute.client.trainer_optimizers import ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON
from fed_compute.protocol.job import TrainingSection
from fed_compute.simulator.cohort.gradients import Gradient, Stacks, first_of

_CLIP_EPSILON = 1e-6


class StackedOptimizer:
    """Moves the parameters of k clients; in a step, of the first of them only.

    `start` is where everybody began, for the proximal term: one tensor (…) for each parameter. `added`, one tensor
    (k, …) for each, is added to each step's gradient after this was limited. Both as in `client.trainer`. Memory:
    for plain SGD none, else as much again as the parameters for each of gradient, momentum, mean and mean square.
    """

    def __init__(
        self, parameters: Stacks, training: TrainingSection, *, start: Stacks, added: Stacks | None = None
    ) -> None:
        self._parameters = list(parameters)
        self._training = training
        self._start = start
        self._added = added
        self._is_plain = (
            training.optimizer == "sgd"
            and training.momentum == training.proximal_mu == 0
            and training.max_grad_norm is None
            and added is None
        )
        self._momenta: list[torch.Tensor] | None = None
        self._means = [torch.zeros_like(one) for one in parameters if training.optimizer != "sgd"]
        self._mean_squares = [torch.zeros_like(one) for one in parameters if training.optimizer != "sgd"]
        self._steps = [torch.tensor(0.0) for _ in self._means]

    @torch.no_grad()
    def step(self, gradients: Sequence[Gradient], *, active: int) -> None:
        """Move the first `active` clients. Whoever is left out once stays out."""
        training = self._training
        parameters = first_of(self._parameters, active)
        if self._is_plain:
            keep = 1 - training.lr * training.weight_decay
            for parameter, gradient in zip(parameters, gradients, strict=True):
                gradient.descend(parameter, lr=training.lr, keep=keep)
            return
        dense = self._corrected([gradient.dense() for gradient in gradients], parameters)
        if training.optimizer == "sgd":
            self._step_sgd(parameters, dense)
        else:
            self._step_adam(parameters, dense)

    def _corrected(self, gradients: list[torch.Tensor], parameters: Stacks) -> list[torch.Tensor]:
        """Pull back to the start, limit the norm, turn: the trainer's order."""
        training, active = self._training, len(parameters[0])
        if training.proximal_mu > 0:
            gradients = [
                (parameter - start).mul_(training.proximal_mu).add_(gradient)
                for parameter, start, gradient in zip(parameters, self._start, gradients, strict=True)
            ]
        if training.max_grad_norm is not None:
            factors = _clip_factors(gradients, training.max_grad_norm)
            gradients = [one * factors.reshape(active, *[1] * (one.ndim - 1)) for one in gradients]
        if self._added is not None:
            gradients = [added[:active] + one for added, one in zip(self._added, gradients, strict=True)]
        return gradients

    def _step_sgd(self, parameters: list[torch.Tensor], gradients: list[torch.Tensor]) -> None:
        momenta: list[torch.Tensor | None] = [None] * len(parameters)
        if self._momenta is not None:
            momenta = [*first_of(self._momenta, len(parameters[0]))]
        sgd(
            parameters,
            gradients,
            momenta,
            lr=self._training.lr,
            momentum=self._training.momentum,
            weight_decay=self._training.weight_decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        if self._training.momentum and self._momenta is None:
            self._momenta = [one for one in momenta if one is not None]

    def _step_adam(self, parameters: list[torch.Tensor], gradients: list[torch.Tensor]) -> None:
        active = len(parameters[0])
        function = adam if self._training.optimizer == "adam" else adamw
        function(
            parameters,
            gradients,
            first_of(self._means, active),
            first_of(self._mean_squares, active),
            [],
            self._steps,
            lr=self._training.lr,
            beta1=ADAM_BETA1,
            beta2=ADAM_BETA2,
            eps=ADAM_EPSILON,
            weight_decay=self._training.weight_decay,
            amsgrad=False,
            maximize=False,
        )


def _clip_factors(gradients: Sequence[torch.Tensor], max_norm: float) -> torch.Tensor:
    """Return what each client's gradient is to be multiplied with, as `clip_grad_norm_` does, shape (k,)."""
    norms = torch.stack([one.flatten(1).norm(dim=1) for one in gradients]).norm(dim=0)
    factors: torch.Tensor = (max_norm / (norms + _CLIP_EPSILON)).clamp(max=1.0)
    return factors
