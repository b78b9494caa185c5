"""Behaviour simulation: slow starts, dropouts, slow machines, slow networks.

Decisions are pure: numbers in, numbers out, chance from the generator that the caller passes.
Whoever asks does the sleeping, with its own clock. The default does nothing at all.
"""

from dataclasses import dataclass

import numpy as np


class TaskInterrupted(Exception):
    """The work on a task ends early on purpose. Raised through the trainer's progress callback."""


class DroppedOut(TaskInterrupted):
    """The simulated client vanishes in the middle of its task, without a word to the coordinator."""

    def __init__(self, *, fraction: float) -> None:
        super().__init__(f"simulated dropout after {fraction:.0%} of the work")
        self.fraction = fraction


@dataclass(frozen=True, slots=True)
class Behavior:
    """How a client misbehaves. Delays in seconds, `dropout_probability` from 0 to 1, `speed_factor` from 1.

    A speed factor of 4 makes training take four times as long.
    """

    startup_delay: float = 0.0
    dropout_probability: float = 0.0
    speed_factor: float = 1.0
    coordinator_delay: float = 0.0

    def decide_startup(self, rng: np.random.Generator) -> float:
        """Return the seconds to wait before the first call: 50 % to 150 % of `startup_delay`."""
        return self.startup_delay * rng.uniform(0.5, 1.5) if self.startup_delay else 0.0

    def decide_dropout(self, rng: np.random.Generator) -> float | None:
        """Return the fraction of the work, 0 to 1, after which this task is dropped, or None. One decision per task."""
        if self.dropout_probability and rng.random() < self.dropout_probability:
            return float(rng.random())
        return None

    def decide_call(self, rng: np.random.Generator) -> float:
        """Return the seconds of latency before one call: exponential with mean `coordinator_delay`."""
        return float(rng.exponential(self.coordinator_delay)) if self.coordinator_delay else 0.0

    def decide_stretch(self, seconds: float) -> float:
        """Return the seconds to sleep after `seconds` of real work, so that it took `speed_factor` times as long."""
        return max(0.0, seconds * (self.speed_factor - 1.0))
