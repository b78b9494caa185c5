"""Who takes part: machines of very different speed that vanish now and then."""

from dataclasses import dataclass

import numpy as np

from fed_compute.ids import ClientId


@dataclass(frozen=True, slots=True)
class Machine:
    """One client: how long it trains for one task, give or take a tenth, in seconds."""

    name: ClientId
    task_seconds: float


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything that is the same whatever the mode of the rounds.

    Task times are log-uniform from `fastest_seconds` to `spread` times as long. A machine vanishes within a task
    with probability `dropout`, without a word, and comes back `away_seconds` later. Its data are a part of the
    digits with its own mixture of classes, by Dirichlet(`alpha`). `hidden_dim` is the model's.
    """

    num_clients: int = 60
    spread: float = 100.0
    fastest_seconds: float = 4.0
    dropout: float = 0.1
    away_seconds: float = 120.0
    alpha: float = 0.3
    hidden_dim: int = 32
    target_accuracy: float = 0.9
    longest_seconds: float = 15_000.0

    def machines(self, *, seed: int) -> list[Machine]:
        """Return the fleet. Speed has nothing to do with whose data a machine has."""
        factors = self.spread ** np.random.default_rng([seed, 0]).random(self.num_clients)
        return [
            Machine(ClientId(f"machine-{number:03d}"), float(self.fastest_seconds * factor))
            for number, factor in enumerate(factors)
        ]
