"""The port that every aggregation rule fills."""

from typing import Protocol

from fed_compute.learning.vectors import Vector, Vector64


class AggregationRule(Protocol):
    """Fold updates one at a time into one mean."""

    @property
    def num_updates(self) -> int:
        """Updates folded in so far."""
        ...

    @property
    def num_samples(self) -> int:
        """Samples behind those updates."""
        ...

    def add(self, delta: Vector, *, num_samples: int) -> None:
        """Fold in one update, float32 (P,), trained minus base. A refused one leaves no trace.

        Raises:
            UpdateRefused: if the update has another shape, is not finite, or has an impossible sample count.
        """
        ...

    def result(self) -> Vector64:
        """Return the mean update so far, float64 (P,), as a new array.

        Raises:
            NothingToAggregate: if no update was folded in.
        """
        ...
