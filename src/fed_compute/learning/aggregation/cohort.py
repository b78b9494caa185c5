"""The updates of one round as a robust rule sees them."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import numpy as np

from fed_compute.learning.aggregation.context import NO_CONTEXT, RoundContext
from fed_compute.learning.aggregation.gram import gram, product
from fed_compute.learning.aggregation.matrix import Matrix64, StackedMatrix, UpdateMatrix
from fed_compute.learning.vectors import Vector, Vector64


class Cohort:
    """Updates, what each counts, and how many of them may lie.

    `weights` is float64 (n,), all above 0. `num_liars` is f: the rules bear liars that hold up to f/n of the
    weight, which with equal weights is f of n. What `context` tells of rows holds for the rows of `matrix`.
    """

    def __init__(
        self,
        matrix: UpdateMatrix,
        weights: Vector64,
        *,
        num_liars: int,
        context: RoundContext = NO_CONTEXT,
        derive_gram: Callable[[], Matrix64] | None = None,
    ) -> None:
        self.matrix = matrix
        self.weights = weights
        self.num_liars = num_liars
        self.context = context
        self._derive_gram = derive_gram

    @property
    def num_updates(self) -> int:
        """Rows, n."""
        return len(self.weights)

    @property
    def center(self) -> Vector | None:
        """The point that centered clipping starts from, float32 (P,), None for the origin."""
        return self.context.center

    @property
    def root(self) -> int | None:
        """The row of the trusted client, if there is one."""
        return self.context.root

    @property
    def steps(self) -> Vector64:
        """How far the local steps behind each row add up, float64 (n,): where nothing is known of them all the same."""
        if self.context.steps is None:
            return np.ones(self.num_updates, dtype=np.float64)
        return np.array(self.context.steps, dtype=np.float64)

    @property
    def shares(self) -> Vector64:
        """Each update's part of the whole weight, float64 (n,)."""
        shares: Vector64 = self.weights / math.fsum(self.weights)
        return shares

    @property
    def has_equal_weights(self) -> bool:
        """Whether every update counts the same."""
        return bool((self.weights == self.weights[0]).all())

    def mass_of(self, count: float) -> float:
        """Return the weight that `count` of the n updates hold on average."""
        return count * math.fsum(self.weights) / self.num_updates

    @property
    def gram(self) -> Matrix64:
        """Inner products of the updates, float64 (n, n)."""
        return self.extended_gram[: self.num_updates, : self.num_updates]

    @cached_property
    def extended_gram(self) -> Matrix64:
        """Inner products of the updates and, as the last row, the center, float64 (n + 1, n + 1)."""
        if self._derive_gram is not None:
            return self._derive_gram()
        if self.center is not None:
            return gram(StackedMatrix(self.matrix, self.center))
        return np.pad(gram(self.matrix), (0, 1))

    def norms(self) -> Vector64:
        """L2 norms of the updates, float64 (n,)."""
        norms: Vector64 = np.sqrt(np.diagonal(self.gram))
        return norms

    def replaced(self, matrix: UpdateMatrix, mixing: Matrix64, weights: Vector64) -> "Cohort":
        """Return the cohort of `matrix`, whose rows are `mixing` (m, n) times those of this one.

        The steps are known no more.
        """
        m, n = mixing.shape
        extended = np.zeros((m + 1, n + 1), dtype=np.float64)
        extended[:m, :n], extended[m, n] = mixing, 1.0

        def derive_gram() -> Matrix64:
            derived = product(product(extended, self.extended_gram), extended.T)
            return (derived + derived.T) / 2

        context = replace(self.context, root=self.root if m == n else None, steps=None)
        return Cohort(
            matrix,
            weights,
            num_liars=self.num_liars,
            context=context,
            derive_gram=derive_gram,
        )
