"""Who takes part: machines of very different speed that vanish now and then."""

from dataclasses import dataclass

from fed_compute.simulator.population import DeviceSection, FleetSpec
from fed_compute.simulator.population.description import CoordinatorSection

HEARTBEAT_SECONDS, LOOK_SECONDS = 20.0, 5.0
TASK_JITTER = 0.1
"""Task times of one machine differ by so much in both directions."""
_NO_TIME_PER_SAMPLE = 1e12


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything that is the same whatever the mode of the rounds.

    Task times are log-uniform from `fastest_seconds` to `spread` times as long, whatever data a machine has. A machine
    vanishes within a task with probability `dropout`, without a word, and comes back `away_seconds` later. Its data are
    a part of the digits with its own mixture of classes, by Dirichlet(`alpha`). `hidden_dim` is the model's.
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

    def fleet(self) -> FleetSpec:
        """Return the fleet."""
        machine = DeviceSection(
            name="machine",
            samples_per_second=_NO_TIME_PER_SAMPLE,
            overhead_seconds=self.fastest_seconds,
            speed_spread=self.spread,
            speed_variation=TASK_JITTER,
            dropout_probability=self.dropout,
            away_seconds=self.away_seconds,
        )
        beats = CoordinatorSection(heartbeat_seconds=HEARTBEAT_SECONDS, look_seconds=LOOK_SECONDS)
        return FleetSpec(name="unequal machines", device=[machine], coordinator=beats)
