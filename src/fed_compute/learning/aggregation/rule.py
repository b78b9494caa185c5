"""The ports that aggregation rules fill."""

from typing import Protocol, runtime_checkable

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.matrix import Matrix, Matrix64
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


@runtime_checkable
class GramRule(Protocol):
    """A rule whose result is a weighted sum of the updates, with weights found from inner products alone."""

    @property
    def uses_num_liars(self) -> bool:
        """Whether the rule has to be told how many updates may lie."""
        ...

    def least_updates(self, num_liars: int) -> int:
        """Return how many updates the rule needs to bear `num_liars` of them."""
        ...

    def influence(self, cohort: Cohort) -> Vector64:
        """Return how much of each update is in the result, float64 (n,), or (n + 1,) with that of the center last."""
        ...


@runtime_checkable
class CoordinateRule(Protocol):
    """A rule that looks at one parameter at a time."""

    @property
    def uses_num_liars(self) -> bool:
        """Whether the rule has to be told how many updates may lie."""
        ...

    def least_updates(self, num_liars: int) -> int:
        """Return how many updates the rule needs to bear `num_liars` of them."""
        ...

    def combine(self, block: Matrix, cohort: Cohort) -> Vector64:
        """Return the result for some parameters, float64 (B,), from all updates' values of them, float32 (n, B)."""
        ...


class PreAggregation(Protocol):
    """What is done to the updates before a rule sees them: a linear map of the rows."""

    @property
    def uses_num_liars(self) -> bool:
        """Whether it has to be told how many updates may lie."""
        ...

    def num_rows(self, num_updates: int) -> int:
        """Return how many rows come out of so many updates."""
        ...

    def prepare(self, cohort: Cohort, *, seed: int) -> tuple[Cohort, Matrix64]:
        """Return what the rule shall see, and the map, float64 (rows out, rows in)."""
        ...
