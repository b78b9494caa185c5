"""A whole robust rule: what is done first, the rule itself, and how many liars it bears."""

import math
from dataclasses import dataclass

import numpy as np

from fed_compute.errors import NothingToAggregate
from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.context import NO_CONTEXT, RoundContext
from fed_compute.learning.aggregation.gram import product
from fed_compute.learning.aggregation.matrix import (
    Matrix64,
    StackedMatrix,
    UpdateMatrix,
    column_blocks,
    weighted_rows,
)
from fed_compute.learning.aggregation.rule import CoordinateRule, GramRule, Outcome, PreAggregation
from fed_compute.learning.vectors import Vector64, require_shape


@dataclass(frozen=True, slots=True)
class RobustRule:
    """Pre-aggregations in order, then one rule.

    `tolerate` is f, or its share of the updates, rounded down. `floor` is the least number of rows for which the
    rule means anything, whatever its parts need.
    """

    name: str
    core: GramRule | CoordinateRule
    pre: tuple[PreAggregation, ...] = ()
    tolerate: int | float = 0.2
    floor: int = 1

    @property
    def uses_num_liars(self) -> bool:
        """Whether f matters at all."""
        return self.core.uses_num_liars or any(step.uses_num_liars for step in self.pre)

    def wanted_liars(self, num_updates: int) -> int:
        """Return the f that is asked for in a round of so many updates."""
        if isinstance(self.tolerate, int):
            return self.tolerate
        return math.floor(self.tolerate * num_updates + 1e-9)

    def num_liars(self, num_updates: int) -> int:
        """Return the f that is used: the wanted one, lowered to what so many updates allow."""
        rows, wanted = self._num_rows(num_updates), self.wanted_liars(num_updates)
        return max((f for f in range(wanted + 1) if self.core.least_updates(f) <= rows and 2 * f < rows), default=0)

    def protects(self, num_updates: int) -> bool:
        """Say whether the rule bears at least one liar among so many updates, or was told to bear none."""
        least = 0 if self.uses_num_liars and self.tolerate == 0 else 1
        if self.uses_num_liars and self.num_liars(num_updates) < least:
            return False
        return max(self.floor, self.core.least_updates(least)) <= self._num_rows(num_updates)

    def aggregate(self, updates: UpdateMatrix, weights: Vector64, context: RoundContext = NO_CONTEXT) -> Outcome:
        """Combine the updates of one round. Nothing is changed.

        `weights` is float64 (n,), above 0 and finite.

        Raises:
            NothingToAggregate: if there is no update.
            RootUpdateMissing: if the rule needs a trusted update and there is none.
            ValueError: if a weight, or a number of steps, is not above 0 and finite.
        """
        require_shape(weights, updates.num_updates, what="weights")
        if updates.num_updates == 0:
            raise NothingToAggregate()
        _require_positive(weights, what="weight")
        if context.steps is not None:
            steps = np.array(context.steps, dtype=np.float64)
            require_shape(steps, updates.num_updates, what="steps")
            _require_positive(steps, what="number of steps")
        num_liars = self.num_liars(updates.num_updates)
        near_one = np.ldexp(weights, -np.frexp(weights.max())[1])  # a power of two changes no bit of a sum
        cohort = Cohort(updates, near_one, num_liars=num_liars, context=context)
        cohort, mixing = self._prepared(cohort, seed=context.seed)
        if isinstance(self.core, CoordinateRule):
            return Outcome(_by_coordinate(self.core, cohort), num_liars, None)
        rows = self.core.influence(cohort)
        influence = rows[: cohort.num_updates]
        if mixing is not None:
            influence = product(influence[None], mixing)[0]
        if context.center is None or len(rows) == cohort.num_updates:
            return Outcome(weighted_rows(updates, influence), num_liars, influence)
        mean = weighted_rows(StackedMatrix(updates, context.center), np.append(influence, rows[-1]))
        return Outcome(mean, num_liars, influence)

    def _num_rows(self, num_updates: int) -> int:
        for step in self.pre:
            num_updates = step.num_rows(num_updates)
        return num_updates

    def _prepared(self, cohort: Cohort, *, seed: int) -> tuple[Cohort, Matrix64 | None]:
        mixing: Matrix64 | None = None
        for step in self.pre:
            cohort, map_ = step.prepare(cohort, seed=seed)
            mixing = map_ if mixing is None else product(map_, mixing)
        return cohort, mixing


def _require_positive(values: Vector64, *, what: str) -> None:
    if not (np.isfinite(values).all() and (values > 0.0).all()):
        raise ValueError(f"each {what} must be above 0 and finite")


def _by_coordinate(core: CoordinateRule, cohort: Cohort) -> Vector64:
    mean = np.empty(cohort.matrix.num_parameters, dtype=np.float64)
    for part in column_blocks(cohort.matrix.num_parameters):
        mean[part] = core.combine(cohort.matrix.block(part), cohort)
    mean += 0.0  # no negative zeros: which of two zeros a sort puts first is its own affair
    return mean
