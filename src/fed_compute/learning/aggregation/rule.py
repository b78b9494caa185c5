"""The ports that aggregation rules fill."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.context import RoundContext
from fed_compute.learning.aggregation.matrix import Matrix, Matrix64
from fed_compute.learning.vectors import Vector, Vector64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rule made of a round."""

    mean: Vector64
    """The combined update, float64 (P,)."""
    num_liars: int = 0
    """The f that was used."""
    influence: Vector64 | None = None
    """How much of each update is in the mean, float64 (n,); None where each parameter has a choice of its own."""
    cosines: Vector64 | None = None
    """Where each update points beside the mean, float64 (n,), from -1 to 1; None where nobody looked."""


class AggregationRule(Protocol):
    """Takes the updates of a round as they come and combines them when it closes."""

    @property
    def num_updates(self) -> int:
        """Updates taken so far."""
        ...

    @property
    def weights(self) -> tuple[float, ...]:
        """Their weights."""
        ...

    def add(self, delta: Vector, *, weight: float) -> None:
        """Take one update, as `add_all` does."""
        ...

    def add_all(self, deltas: Sequence[Vector], *, weights: Sequence[float]) -> None:
        """Take updates in order, each float32 (P,), trained minus base. If one is refused, none leaves a trace.

        Raises:
            UpdateRefused: if an update has another shape or is not finite.
            ValueError: if a weight is not above 0 and finite, or has more than 24 significant bits.
        """
        ...

    def reweigh(self, weights: Sequence[float], again: Iterable[Vector]) -> None:
        """Give the same updates other weights. `again` yields them in order, to a rule that did not keep them."""
        ...

    def combine(self, context: RoundContext) -> Outcome:
        """Return what the updates so far come to. Nothing is changed.

        Raises:
            NothingToAggregate: if there is none.
            RoundTooSmall: if there are too few to bear a single liar.
            RootUpdateMissing: if the rule needs a trusted update and there is none.
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
