"""The optimisers against the classes of `torch.optim`, which they stand in for."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fed_compute.client.trainer_optimizers import make_optimizer
from fed_compute.protocol.job import TrainingSection

STEPS = 12


def optimizer_class(parameters: list[nn.Parameter], training: TrainingSection) -> torch.optim.Optimizer:
    """Return the optimiser of PyTorch that a job names."""
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=training.lr, momentum=training.momentum, weight_decay=training.weight_decay
        )
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, lr=training.lr, weight_decay=training.weight_decay)


def path_of(training: TrainingSection, make: Callable[[list[nn.Parameter]], Callable[[], None]]) -> list[bytes]:
    """Return all parameters after each step, as bytes, with gradients that are the same each time.

    The first parameter has a gradient in every step, the second in every other one, the third never.
    """
    chance = torch.Generator().manual_seed(3)
    parameters = [nn.Parameter(torch.randn(size, generator=chance)) for size in ((7, 5), (5,), (3,))]
    step, path = make(parameters), []
    for number in range(STEPS):
        for parameter, every in zip(parameters, (1, 2, STEPS), strict=True):
            moves = number % every == every - 1 and parameter is not parameters[2]
            parameter.grad = torch.randn(parameter.shape, generator=chance) if moves else None
        step()
        path.append(b"".join(parameter.detach().numpy().tobytes() for parameter in parameters))
    return path


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize(("optimizer", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.0), ("adamw", 0.0)])
def test_each_step_gives_the_bits_that_pytorch_s_own_class_gives(
    optimizer: str, momentum: float, weight_decay: float
) -> None:
    """A client that was upgraded must train as before, or its results could not be compared with anyone's."""
    training = TrainingSection.model_validate(
        {"optimizer": optimizer, "lr": 0.05, "momentum": momentum, "weight_decay": weight_decay}
    )
    ours = path_of(training, lambda parameters: make_optimizer(parameters, training).step)
    theirs = path_of(training, lambda parameters: optimizer_class(parameters, training).step)
    assert ours == theirs
    assert len(set(ours)) == STEPS


def test_a_sparse_gradient_moves_the_rows_that_it_names() -> None:
    """A plug-in model may have a sparse embedding."""
    table = nn.Embedding.from_pretrained(torch.ones(4, 2), freeze=False, sparse=True)
    table(torch.tensor([2])).sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.is_sparse
    make_optimizer(table.parameters(), TrainingSection(lr=0.5)).step()
    assert table.weight.tolist() == [[1, 1], [1, 1], [0.5, 0.5], [1, 1]]
