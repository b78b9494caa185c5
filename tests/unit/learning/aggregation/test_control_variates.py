"""SCAFFOLD: control variates that turn unlike clients' steps towards the optimum of all."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pytest

from fed_compute.errors import AggregateNotFinite
from fed_compute.learning.aggregation.control_variates import next_control
from fed_compute.learning.aggregation.gram import gram, squared_lengths
from fed_compute.learning.aggregation.matrix import COLUMNS, ArrayMatrix
from fed_compute.learning.control_variates import correction, next_own_control
from fed_compute.learning.vectors import Vector

TWO = ((1.0, -3.0), (10.0, 5.0))
"""Clients' h and b, each with a loss of h/2 · (x - b)²; together these are best off at 47/11 = 4.27."""
THREE = ((1.0, 0.0), (1.0, -3.0), (10.0, 8.0))
"""These are best off at 77/12 = 6.42."""
LR, STEPS, ROUNDS = 0.05, 20, 400
ZERO = np.zeros(1, dtype=np.float32)


def moved(
    control: Sequence[float],
    deltas: Sequence[Sequence[float]],
    folder: Path,
    *,
    ways: Sequence[float],
    weights: Sequence[float] | None = None,
    fraction: float = 1.0,
) -> list[float]:
    """Return the next control variate."""
    after = next_control(
        np.array(control, dtype=np.float32),
        [np.array(delta, dtype=np.float32) for delta in deltas],
        ways=ways,
        weights=np.array(weights or [1.0] * len(deltas)),
        fraction=fraction,
        folder=folder,
    )
    assert after.dtype == np.float32
    return [float(value) for value in after]


def settled(
    folder: Path, *, strength: float, unheard: Collection[int] = (), clients: Sequence[tuple[float, float]] = TWO
) -> float:
    """Return where rounds of all clients end; the clients take those that are `unheard` for counted, wrongly."""
    x, control, own, num = 0.0, ZERO, [ZERO] * len(clients), len(clients)
    for number in range(ROUNDS):
        deltas: list[Vector] = []
        for client, (curvature, optimum) in enumerate(clients):
            added, y = correction(control, own[client], strength=strength), x
            for _ in range(STEPS):
                y -= LR * (curvature * (y - optimum) + float(added[0]))
            deltas.append(np.array([y - x], dtype=np.float32))
            own[client] = next_own_control(added, deltas[-1], way=STEPS * LR)
        if number not in unheard:
            x += float(np.mean(deltas))
            control = next_control(
                control, deltas, ways=[STEPS * LR] * num, weights=np.ones(num), fraction=1.0, folder=folder
            )
    return x


@pytest.mark.parametrize(("strength", "place"), [(0.0, 1.874), (0.9, 3.780), (0.99, 4.218), (1.0, 47 / 11)])
def test_unlike_clients_with_many_steps_settle_the_nearer_to_the_optimum_the_stronger_the_variates(
    tmp_path: Path, strength: float, place: float
) -> None:
    """At 0 this is federated averaging."""
    assert settled(tmp_path, strength=strength) == pytest.approx(place, abs=2e-3)


def test_a_round_that_only_the_clients_count_is_forgotten_below_one_and_never_at_one(tmp_path: Path) -> None:
    assert settled(tmp_path, strength=0.9, unheard={0}) == pytest.approx(settled(tmp_path, strength=0.9), abs=1e-3)
    assert settled(tmp_path, strength=1.0, unheard={0}) == pytest.approx(3.993, abs=2e-3)


def test_honest_clients_that_are_unlike_are_not_clipped_as_they_would_be_to_the_median(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settled(tmp_path, strength=0.0, clients=THREE) == pytest.approx(2.661, abs=2e-3)
    assert settled(tmp_path, strength=0.9, clients=THREE) == pytest.approx(5.486, abs=2e-3)
    monkeypatch.setattr("fed_compute.learning.aggregation.control_variates.MOST_MEDIANS", 1.0)
    assert settled(tmp_path, strength=0.9, clients=THREE) == pytest.approx(1.858, abs=2e-3)


def test_a_client_s_next_control_variate_is_its_mean_gradient() -> None:
    """Four steps at 0.1 along -(gradient + what was added)."""
    control, own = np.array([1.0, 0.0], dtype=np.float32), np.array([0.0, 3.0], dtype=np.float32)
    added = correction(control, own, strength=0.5)
    assert added.tolist() == [0.5, -1.5]
    gradient = np.array([2.0, 7.0], dtype=np.float32)
    after = next_own_control(added, (-0.4 * (gradient + added)).astype(np.float32), way=0.4)
    np.testing.assert_allclose(after, gradient, rtol=1e-6)


def test_the_server_s_moves_by_the_weighted_mean_of_what_updates_tell(tmp_path: Path) -> None:
    """The terms are -1 + 3 = 2 and -1 + 1 = 0 of the first value, 0.5 and 4 of the second."""
    after = moved([1.0, 0.0], [[-3.0, -0.5], [-2.0, -8.0]], tmp_path, ways=[1.0, 2.0], weights=[3.0, 1.0])
    assert after == pytest.approx([1.0 + 1.5, 0.375 + 1.0], rel=1e-6)
    alike = moved([1.0, 0.0], [[-3.0, -0.5], [-2.0, -4.0]], tmp_path, ways=[1.0, 2.0], fraction=0.5)
    assert alike == pytest.approx([1.0 + 0.5, 0.5 * 1.25], rel=1e-6)


@pytest.mark.parametrize(("huge", "way"), [(1e6, 1.0), (3e38, 1e-3), (3e38, 1e-300)])
def test_a_liar_carries_it_no_further_than_twice_the_median_way(tmp_path: Path, huge: float, way: float) -> None:
    honest, liar = [[-1.0, 0.0], [0.0, -1.5]], [huge, huge]
    with_liar = moved([0.0, 0.0], [*honest, liar], tmp_path, ways=[1.0, 1.0, way])
    without = [1.0 / 3, 1.5 / 3]
    assert np.hypot(*np.subtract(with_liar, without)) == pytest.approx(2 * 1.5 / 3, rel=1e-5)


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AggregateNotFinite, match="control variate"):
        moved([3e38], [[-3e38], [-3e38]], tmp_path, ways=[1e-3, 1e-3])


def test_updates_of_zeros_move_nothing(tmp_path: Path) -> None:
    assert moved([0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]], tmp_path, ways=[1.0, 2.0]) == [0.0, 0.0]


def test_lengths_alone_are_the_diagonal_of_all_products() -> None:
    rows = np.random.default_rng(0).normal(size=(5, COLUMNS + 7)).astype(np.float32) * np.float32(1e-3)
    matrix = ArrayMatrix(rows)
    assert squared_lengths(matrix).tobytes() == np.diagonal(gram(matrix)).tobytes()
