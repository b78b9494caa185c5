"""What a client stands in."""

from dataclasses import dataclass, field

import numpy as np

from fed_compute.client.behavior import Behavior
from fed_compute.client.observer import ClientObserver
from fed_compute.clock import Clock


@dataclass(frozen=True)
class Surroundings:
    """A client's clock, who watches it, how it misbehaves, its chance, and its rest after a task in seconds."""

    clock: Clock
    observer: ClientObserver
    rng: np.random.Generator
    behavior: Behavior = field(default_factory=Behavior)
    sleep_between_rounds: float = 5.0
