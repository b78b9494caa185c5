"""What every contender trains, in PyTorch and NumPy alone, so that each environment can import it.

A folder holds `x.npy`, float32 (N, 1, 28, 28) from 0 to 1, and `y.npy`, int64 (N,): first the shards of `CLIENTS`
clients, `EXAMPLES` pictures each, then the pictures that nobody trains on, which measure the model now and then.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

CLIENTS, EXAMPLES, BATCH, LR = 500, 64, 32, 0.1
HELD_OUT = CLIENTS * EXAMPLES // 4
MEASURED_AT_ONCE = 512
"""Pictures: what they become in a network then stays in the processor's cache."""
COHORT = {"mlp": 100, "cnn": 20}
"""Clients of a round."""


class Pictures:
    """The pictures of a folder, mapped, so that several processes share their memory."""

    def __init__(self, folder: Path) -> None:
        self.inputs = torch.from_numpy(np.load(folder / "x.npy", mmap_mode="c"))
        self.classes = torch.from_numpy(np.load(folder / "y.npy"))

    def shard(self, client: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what a client trains on, by its number from 0."""
        rows = slice(client * EXAMPLES, (client + 1) * EXAMPLES)
        return self.inputs[rows], self.classes[rows]

    @torch.no_grad()
    def accuracy(self, model: nn.Module) -> float:
        """Return the part of the held-out pictures that a model classifies rightly."""
        inputs, classes = self.inputs[CLIENTS * EXAMPLES :], self.classes[CLIENTS * EXAMPLES :]
        blocks = zip(inputs.split(MEASURED_AT_ONCE), classes.split(MEASURED_AT_ONCE), strict=True)
        return sum(int((model(some).argmax(dim=1) == wanted).sum()) for some, wanted in blocks) / len(classes)


def new_model(workload: str) -> nn.Module:
    """Return `mlp`, 784-128-64-10, or `cnn`, 16 and 32 3×3 convolutions with pooling and 64 units."""
    if workload == "mlp":
        hidden = [nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU()]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))
    first = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10))


def train(model: nn.Module, inputs: torch.Tensor, classes: torch.Tensor) -> None:
    """Train one client: an epoch of SGD in shuffled batches."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for rows in torch.randperm(len(classes)).split(BATCH):
        optimizer.zero_grad()
        F.cross_entropy(model(inputs[rows]), classes[rows]).backward()
        optimizer.step()


def is_measured(number: int, *, every: int, rounds: int) -> bool:
    """Say whether the model is measured after a round, from 1: each so many, and the last."""
    return number % every == 0 or number == rounds


def tell(number: int, accuracy: float | None) -> None:
    """Print that a round has ended, with the time of the clock that all processes of this machine share."""
    print(json.dumps({"round": number, "at": time.monotonic(), "accuracy": accuracy}), flush=True)
