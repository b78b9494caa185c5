"""The Aggregator: a rule and a server optimiser, joined."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fed_compute.learning.aggregation.context import NO_CONTEXT, RoundContext
from fed_compute.learning.aggregation.rule import AggregationRule, Outcome
from fed_compute.learning.aggregation.server_optimizers import OptimizerState, ServerOptimizer, require_finite_result
from fed_compute.learning.vectors import Vector

CENTER = "aggregation.center"
"""The name under which the last result is kept for a rule that starts from it."""


@dataclass(frozen=True, slots=True)
class NextVersion:
    """What a round came to: the next parameters, float32 (P,), what to remember for the next round, and how."""

    parameters: Vector
    state: OptimizerState
    outcome: Outcome


class Aggregator:
    """Makes the next version of one round: take the updates in, combine them, take one step along the result."""

    def __init__(self, rule: AggregationRule, optimizer: ServerOptimizer, *, keeps_center: bool = False) -> None:
        """Join the two. `keeps_center` remembers each round's result for a rule that starts from the last one."""
        self._rule = rule
        self._optimizer = optimizer
        self._keeps_center = keeps_center

    @property
    def num_updates(self) -> int:
        """Updates taken in so far."""
        return self._rule.num_updates

    def add_all(self, deltas: Sequence[Vector], *, weights: Sequence[float]) -> None:
        """Take in updates, each float32 (P,), trained minus base. If one is refused, none leaves a trace.

        Raises:
            UpdateRefused: if an update has another shape or is not finite.
        """
        self._rule.add_all(deltas, weights=weights)

    def weigh(self, weights: Sequence[float], again: Callable[[], Iterable[Vector]]) -> None:
        """Let the updates have these weights. If they are others than so far, `again` may be asked for the updates."""
        if tuple(weights) != self._rule.weights:
            self._rule.reweigh(weights, again())

    def finish(
        self, parameters: Vector, state: OptimizerState, context: RoundContext = NO_CONTEXT, *, step_scale: float = 1.0
    ) -> NextVersion:
        """Return the next version; no argument is changed. Of `context`, the center is taken from `state`.

        The combined update is multiplied by `step_scale` before the server's step.

        Raises:
            NothingToAggregate: if no update was taken in.
            RoundTooSmall: if there are too few for the rule to bear a single liar.
            RootUpdateMissing: if the rule needs a trusted update and there is none.
            OptimizerStateMismatch: if `state` is neither initial nor of this optimiser and model.
            AggregateNotFinite: if the next parameters would not be finite.
        """
        memory = dict(state.vectors)
        center = memory.pop(CENTER, None) if self._keeps_center else None
        outcome = self._rule.combine(replace(context, center=center))
        step = outcome.mean if step_scale == 1.0 else outcome.mean * step_scale
        after, kept = self._optimizer.step(parameters, step, OptimizerState(memory))
        if self._keeps_center:
            last = outcome.mean.astype(np.float32)
            require_finite_result("result", last)
            kept = OptimizerState({**kept.vectors, CENTER: last})
        return NextVersion(after, kept, outcome)
