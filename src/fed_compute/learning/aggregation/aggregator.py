"""The Aggregator: a rule and a server optimiser, joined."""

from fed_compute.learning.aggregation.rule import AggregationRule
from fed_compute.learning.aggregation.server_optimizers import OptimizerState, ServerOptimizer
from fed_compute.learning.vectors import Vector


class Aggregator:
    """Makes the next version of one round: fold the updates in, then take one step along their mean."""

    def __init__(self, rule: AggregationRule, optimizer: ServerOptimizer) -> None:
        self._rule = rule
        self._optimizer = optimizer

    @property
    def num_updates(self) -> int:
        """Updates folded in so far."""
        return self._rule.num_updates

    @property
    def num_samples(self) -> int:
        """Samples behind those updates."""
        return self._rule.num_samples

    def add(self, delta: Vector, *, num_samples: int) -> None:
        """Fold in one update, float32 (P,), trained minus base. A refused one leaves no trace.

        Raises:
            UpdateRefused: if the update has another shape, is not finite, or has an impossible sample count.
        """
        self._rule.add(delta, num_samples=num_samples)

    def finish(self, parameters: Vector, state: OptimizerState) -> tuple[Vector, OptimizerState]:
        """Return the next parameters, float32 (P,), and the optimiser's next state; no argument is changed.

        Raises:
            NothingToAggregate: if no update was folded in.
            OptimizerStateMismatch: if `state` is neither initial nor of this optimiser and model.
            AggregateNotFinite: if the next parameters would not be finite.
        """
        return self._optimizer.step(parameters, self._rule.result(), state)
