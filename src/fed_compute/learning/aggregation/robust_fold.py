"""A robust rule over updates that arrive bit by bit: they are kept in a file until the round closes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fed_compute.errors import NothingToAggregate, RoundTooSmall
from fed_compute.learning.aggregation.context import RoundContext
from fed_compute.learning.aggregation.matrix import FileMatrix, UpdateMatrix, column_blocks
from fed_compute.learning.aggregation.robust_rule import RobustRule
from fed_compute.learning.aggregation.rule import Outcome
from fed_compute.learning.aggregation.weighted_mean import require_weight
from fed_compute.learning.vectors import Vector, Vector64


class RobustFold:
    """Keeps the updates of a round in a nameless temporary file and combines them when asked.

    Disk: 4 bytes a parameter and update, in `folder`, gone with this object or its process. Memory: a few blocks of
    2 048 parameters of all updates, and 8 bytes a parameter for the result.
    """

    def __init__(self, rule: RobustRule, num_parameters: int, *, folder: Path) -> None:
        self._rule = rule
        self._matrix = FileMatrix(folder, num_parameters=num_parameters)
        self._weights: list[float] = []

    @property
    def num_updates(self) -> int:
        return self._matrix.num_updates

    @property
    def weights(self) -> tuple[float, ...]:
        return tuple(self._weights)

    def add(self, delta: Vector, *, weight: float) -> None:
        self.add_all([delta], weights=[weight])

    def add_all(self, deltas: Sequence[Vector], *, weights: Sequence[float]) -> None:
        for weight in weights:
            require_weight(weight)
        self._matrix.append(*deltas)
        self._weights += weights

    def reweigh(self, weights: Sequence[float], again: Iterable[Vector]) -> None:
        for weight in weights:
            require_weight(weight)
        if len(weights) != len(self._weights):
            raise ValueError(f"{len(weights)} weights for {len(self._weights)} updates")
        self._weights = list(weights)

    def combine(self, context: RoundContext) -> Outcome:
        n = self.num_updates
        if n == 0:
            raise NothingToAggregate()
        if not self._rule.protects(n):
            raise RoundTooSmall(rule=self._rule.name, got=n)
        weights = np.array(self._weights, dtype=np.float64)
        outcome = self._rule.aggregate(self._matrix, weights, context)
        cosines = cosines_to(outcome.mean, self._matrix)
        return Outcome(outcome.mean, outcome.num_liars, outcome.influence, cosines)


def cosines_to(direction: Vector64, updates: UpdateMatrix) -> Vector64:
    """Return the cosine of each update to a direction, float64 (n,), 0 where one of both is zero. One pass."""
    products, squares = np.zeros((2, updates.num_updates), dtype=np.float64)
    whole = 0.0
    for part in column_blocks(updates.num_parameters):
        block = updates.block(part).astype(np.float64)
        products += (block * direction[part]).sum(axis=1)
        squares += np.square(block, out=block).sum(axis=1)
        whole += float(np.square(direction[part]).sum())
    lengths = np.sqrt(squares * whole)
    cosines: Vector64 = np.clip(products / np.where(lengths > 0.0, lengths, 1.0), -1.0, 1.0)
    return cosines
