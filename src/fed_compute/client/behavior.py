"""Behaviour simulation: slow starts, dropouts, slow machines, slow networks, machines that are off at night.

Decisions are pure: numbers in, numbers out, chance from the generator that the caller passes.
Whoever asks does the sleeping, with its own clock: a real client, or thousands of virtual ones. The default does
nothing at all.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DAY_SECONDS = 86_400.0
Times = npt.NDArray[np.float64]
"""Shape (n,), float64, seconds."""


class TaskInterrupted(Exception):
    """The work on a task ends early on purpose. Raised through the trainer's progress callback."""


class DroppedOut(TaskInterrupted):
    """The simulated client vanishes in the middle of its task, without a word to the coordinator."""

    def __init__(self, *, fraction: float) -> None:
        super().__init__(f"simulated dropout after {fraction:.0%} of the work")
        self.fraction = fraction


@dataclass(frozen=True, slots=True)
class Course:
    """How one task goes: it takes `seconds` from lease to arrival, of which only `lost_after` pass if it is lost."""

    seconds: float
    lost_after: float | None = None


@dataclass(frozen=True, slots=True)
class Behavior:
    """How a client misbehaves. Delays in seconds, probabilities from 0 to 1, `speed_factor` from 1.

    A speed factor of 4 makes training take four times as long, give or take `speed_variation` of itself from task to
    task. With `lateness_probability` an update comes later by exponentially many seconds, `lateness_seconds` in the
    mean. Links are in megabits a second, None for one that takes no time.
    """

    startup_delay: float = 0.0
    dropout_probability: float = 0.0
    speed_factor: float = 1.0
    coordinator_delay: float = 0.0
    speed_variation: float = 0.0
    lateness_probability: float = 0.0
    lateness_seconds: float = 0.0
    down_mbps: float | None = None
    up_mbps: float | None = None

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

    def decide_course(self, rng: np.random.Generator, *, work_seconds: float, down_bytes: int, up_bytes: int) -> Course:
        """Return how a whole task goes, from lease to arrival: fetch, train, send, and what delays each of them.

        `work_seconds` is what the training takes at a speed factor of 1.
        """
        dropped = self.decide_dropout(rng)
        spread = rng.uniform(1.0 - self.speed_variation, 1.0 + self.speed_variation) if self.speed_variation else 1.0
        seconds = (
            self.decide_call(rng)
            + transfer_seconds(down_bytes, mbps=self.down_mbps)
            + work_seconds * self.speed_factor * spread
            + transfer_seconds(up_bytes, mbps=self.up_mbps)
            + self.decide_call(rng)
            + self.decide_lateness(rng)
        )
        return Course(seconds, None if dropped is None else dropped * seconds)

    def decide_lateness(self, rng: np.random.Generator) -> float:
        """Return by how many seconds this update is late."""
        if self.lateness_probability and rng.random() < self.lateness_probability:
            return float(rng.exponential(self.lateness_seconds))
        return 0.0


def transfer_seconds(num_bytes: int, *, mbps: float | None) -> float:
    """Return how long bytes take on a link of so many megabits a second; None is one that takes no time."""
    return 0.0 if mbps is None else 8.0 * num_bytes / (1e6 * mbps)


def is_on(now: float, starts_at: Times, *, fraction: float | Times) -> npt.NDArray[np.bool_]:
    """Say which machines are on at `now`, Unix seconds: each for a `fraction` of every day, from its own time on.

    `starts_at`, shape (n,), in seconds after midnight UTC, is when a machine's hours begin; they may go past midnight.
    """
    on: npt.NDArray[np.bool_] = (now - starts_at) % DAY_SECONDS < fraction * DAY_SECONDS
    return on


def seconds_until_on(now: float, starts_at: Times, *, fraction: float | Times) -> Times:
    """Return in how many seconds each machine is on again, 0 for one that is on now; arguments as for `is_on`."""
    waits: Times = np.where(is_on(now, starts_at, fraction=fraction), 0.0, (starts_at - now) % DAY_SECONDS)
    return waits
