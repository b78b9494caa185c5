"""What each update of a round contributed, from the updates alone: no data, no model is run.

The game behind it: the worth of a set of updates is the cosine between their sum and the sum of all, each
update shortened or stretched to length 1 first. Three answers to it, from cheap to dear:

- the **cosine** to the sum of all (CGSV, Xu et al. 2021, "Gradient driven rewards to guarantee fairness in
  collaborative machine learning"), which approximates the Shapley value of the game at the cost of one dot
  product, and its moving average, the importance;
- **leave one out**: how far the sum turns when one update is missing;
- the **exact Shapley value**, for a few updates only.

All are biased towards the majority: they say who pulls the way the others pull, not who is right.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fed_compute.learning.vectors import Vector, blocks, l2_norm, require_shape

MEMORY = 0.95
"""How much of the old importance stays (α of the paper)."""
LEAST_IMPORTANCE = 1e-3
MOST_PLAYERS = 8
"""The exact Shapley value takes 2ⁿ values of the game; more updates than this are not asked for it."""

Game = Callable[[frozenset[int]], float]
"""The worth of a set of players, numbered from 0; that of nobody is worth something too."""


class UnitSum:
    """The sum of updates, each brought to length 1; then the cosine of any of them to it.

    Two passes over the updates, one update at a time. Memory: one float64 vector, 8 bytes a parameter,
    however many there are. An update of length 0 counts as the zero vector: its cosine is 0.
    """

    def __init__(self, num_parameters: int) -> None:
        self._sum = np.zeros(num_parameters, dtype=np.float64)  # shape (P,)
        self._length: float | None = None

    @property
    def length(self) -> float:
        """The length of the sum: the number of updates if all point the same way, 0 if they cancel."""
        if self._length is None:
            self._length = math.sqrt(sum(float(np.dot(self._sum[part], self._sum[part])) for part in self._parts()))
        return self._length

    def add(self, delta: Vector) -> None:
        """Add an update, float32 (P,).

        Raises:
            UpdateShapeMismatch: if it is not of shape (P,). The sum is left as it was.
        """
        require_shape(delta, self._sum.size, what="delta")
        norm = l2_norm(delta)
        if norm > 0.0:
            for part in self._parts():
                self._sum[part] += delta[part].astype(np.float64) / norm
        self._length = None

    def cosine(self, delta: Vector) -> float:
        """Return the cosine of an update, float32 (P,), to the sum: −1 to 1, 0 if either has no length."""
        norm = l2_norm(delta)
        if norm == 0.0 or self.length == 0.0:
            return 0.0
        dot = sum(float(np.dot(delta[part].astype(np.float64), self._sum[part])) for part in self._parts())
        return min(1.0, max(-1.0, dot / (norm * self.length)))

    def _parts(self) -> Sequence[slice]:
        return list(blocks(self._sum.size))


def cosine_to_others(cosine: float, *, length: float) -> float:
    """Return the cosine of an update to the sum of all others, from its cosine to the sum of all.

    Needs no second look at the vectors: (S − u)·u = c·|S| − 1 and |S − u|² = |S|² − 2c·|S| + 1 for |u| = 1.
    It is 0 where there are no others, or they cancel.
    """
    others = _length_without(cosine, length)
    return 0.0 if others == 0.0 else min(1.0, max(-1.0, (cosine * length - 1.0) / others))


def worth_without(cosine: float, *, length: float) -> float:
    """Return the cosine between the sum of all but one update and the sum of all; `cosine` is the missing one's."""
    others = _length_without(cosine, length)
    return 0.0 if others == 0.0 else min(1.0, max(-1.0, (length - cosine) / others))


def leave_one_out(whole: float, without: Sequence[float]) -> list[float]:
    """Return what is lost with each player, from the worth of all and the worth of all but each one."""
    return [whole - rest for rest in without]


def next_importances(
    importances: Mapping[str, float], cosines: Mapping[str, float], *, memory: float = MEMORY
) -> tuple[dict[str, float], dict[str, float]]:
    """Return everybody's importance after a round, and their shares of the round, which sum to 1.

    r ← α·r + (1 − α)·φ for whoever took part, φ the cosine; a share is max(r, 10⁻³) over the sum of them.
    The paper's r is the share; here, where each round has other clients, the average itself is kept.
    """
    after = {name: memory * importances.get(name, 0.0) + (1.0 - memory) * phi for name, phi in cosines.items()}
    raised = {name: max(LEAST_IMPORTANCE, value) for name, value in after.items()}
    total = sum(raised.values())
    return after, {name: value / total for name, value in raised.items()}


def exact_shapley(game: Game, num_players: int) -> list[float]:
    """Return each player's mean marginal gain over all orders of joining.

    Cost: 2ⁿ values of the game.

    Raises:
        ValueError: if there are more than `MOST_PLAYERS`.
    """
    if num_players > MOST_PLAYERS:
        raise ValueError(f"{num_players} players make {2**num_players} sets, wanted at most {MOST_PLAYERS} players")
    sets = [frozenset(s) for size in range(num_players + 1) for s in itertools.combinations(range(num_players), size)]
    worth = {players: game(players) for players in sets}
    orders = math.factorial(num_players)
    values = [0.0] * num_players
    for players in sets[:-1]:  # the last one is everybody, whom nobody can join
        share = math.factorial(len(players)) * math.factorial(num_players - len(players) - 1) / orders
        for player in set(range(num_players)) - players:
            values[player] += share * (worth[players | {player}] - worth[players])
    return values


def cosine_game(deltas: Sequence[Vector]) -> Game:
    """Return the game of a few updates, each float32 (P,). Memory: their n × n products, no vector is kept."""
    norms = [l2_norm(delta) or 1.0 for delta in deltas]
    products = np.array([[_dot(a, b) / (m * n) for b, n in zip(deltas, norms, strict=True)]
                         for a, m in zip(deltas, norms, strict=True)])  # fmt: skip

    def worth(players: frozenset[int]) -> float:
        chosen = sorted(players)
        own, whole = _length(products[np.ix_(chosen, chosen)]), _length(products)
        return 0.0 if own == 0.0 or whole == 0.0 else float(products[chosen].sum()) / (own * whole)

    return worth


def _length(products: npt.NDArray[np.float64]) -> float:
    return math.sqrt(max(0.0, float(products.sum())))


def _length_without(cosine: float, length: float) -> float:
    square = length * length - 2.0 * cosine * length + 1.0
    return math.sqrt(square) if square > 1e-12 else 0.0


def _dot(a: Vector, b: Vector) -> float:
    return sum(float(np.dot(a[part].astype(np.float64), b[part].astype(np.float64))) for part in blocks(a.size))
