"""What a round is beside its updates."""

from dataclasses import dataclass

from fed_compute.learning.vectors import Vector


@dataclass(frozen=True, slots=True)
class RoundContext:
    """What a rule may need beside the updates: where to start, whom to trust, how much work each was, and chance."""

    center: Vector | None = None
    """Where centered clipping starts, float32 (P,): the result of the round before; None for the origin."""
    root: int | None = None
    """The place of the trusted client's update."""
    steps: tuple[float, ...] | None = None
    """How far the local steps behind each update add up, all above 0 and finite; None where that is not known."""
    seed: int = 0
    """Makes the groups of bucketing."""


NO_CONTEXT = RoundContext()
