"""Models that a user of the simulator could have written; other processes import them from here."""

import torch
from torch import nn


class Affine(nn.Module):
    """Every path can train it."""

    def __init__(self, width: int = 10) -> None:
        super().__init__()
        self.output = nn.Linear(64, width)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.output(inputs.flatten(1))
        return found


class Noisy(Affine):
    """Only the client's own trainer draws its chance as a client does."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(super().forward(inputs), 0.1, self.training)


class Filters(nn.Module):
    """Convolutions, which one client after the other trains fastest."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(1, 4, 3, padding=1)
        self.output = nn.Linear(256, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.output(self.filters(inputs.reshape(-1, 1, 8, 8)).relu().flatten(1))
        return found


class Normed(Affine):
    """It keeps buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(64)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(self.norm(inputs))
