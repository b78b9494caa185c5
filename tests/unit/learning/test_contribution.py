"""What each update contributed: published vectors, the exact value as the judge of the cheap ones, and bounds."""

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fed_compute.errors import UpdateShapeMismatch
from fed_compute.learning.contribution import (
    MOST_PLAYERS,
    UnitSum,
    cosine_game,
    cosine_to_others,
    exact_shapley,
    leave_one_out,
    next_importances,
    worth_without,
)
from fed_compute.learning.vectors import Vector

TABLE = {"": 0.5, "0": 0.6, "1": 0.55, "2": 0.4, "01": 0.7, "02": 0.55, "12": 0.5, "012": 0.65}

values = st.floats(-10, 10, width=32)
crowds = st.integers(2, 6).flatmap(
    lambda n: st.lists(hnp.arrays(np.float32, 4, elements=values), min_size=n, max_size=n)
)


def vector(*numbers: float) -> Vector:
    """Return an update."""
    return np.array(numbers, dtype=np.float32)


def utility(players: frozenset[int]) -> float:
    """Return the worth of a set in a published example."""
    return TABLE["".join(str(player) for player in sorted(players))]


def summed(deltas: Sequence[Vector]) -> UnitSum:
    """Return the sum of some updates."""
    total = UnitSum(deltas[0].size)
    for delta in deltas:
        total.add(delta)
    return total


def test_the_exact_shapley_value_of_a_published_example() -> None:
    found = exact_shapley(utility, 3)
    assert found == pytest.approx([0.1333, 0.0833, -0.0667], abs=5e-5)
    assert sum(found) == pytest.approx(TABLE["012"] - TABLE[""])


def test_leave_one_out_of_the_same_example_sums_to_something_else() -> None:
    found = leave_one_out(TABLE["012"], [TABLE["12"], TABLE["02"], TABLE["01"]])
    assert found == pytest.approx([0.15, 0.10, -0.05])
    assert sum(found) == pytest.approx(0.20)


def test_the_first_step_of_cgsv() -> None:
    deltas = [vector(1, 0), vector(0.8, 0.6), vector(-1, 0)]
    total = summed(deltas)
    cosines = [total.cosine(delta) for delta in deltas]
    assert cosines == pytest.approx([0.8, 1.0, -0.8], abs=1e-6)
    names = dict(zip("abc", cosines, strict=True))
    importances, shares = next_importances({}, names)
    assert list(importances.values()) == pytest.approx([0.04, 0.05, -0.04])
    assert list(shares.values()) == pytest.approx([0.43956, 0.54945, 0.01099], abs=5e-6)


def test_importance_is_a_moving_average_of_whoever_took_part() -> None:
    importances, shares = next_importances({"a": 0.5, "z": 0.9}, {"a": 1.0, "b": 1.0})
    assert importances == {"a": pytest.approx(0.525), "b": pytest.approx(0.05)}
    assert shares == {"a": pytest.approx(0.525 / 0.575), "b": pytest.approx(0.05 / 0.575)}


@given(st.dictionaries(st.text(max_size=3), st.floats(-1, 1), min_size=1, max_size=20))
def test_shares_are_positive_and_sum_to_one(cosines: dict[str, float]) -> None:
    _, shares = next_importances({}, cosines)
    assert all(share > 0 for share in shares.values())
    assert sum(shares.values()) == pytest.approx(1.0)


@given(crowds)
def test_what_is_known_without_the_vectors_is_what_the_vectors_say(deltas: list[Vector]) -> None:
    """The cosine to the others and the worth of all but one come from two numbers, not from another pass."""
    total, game = summed(deltas), cosine_game(deltas)
    everybody = frozenset(range(len(deltas)))
    for place, delta in enumerate(deltas):
        if not np.any(delta):
            continue
        rest = [other for other in range(len(deltas)) if other != place]
        others = summed([deltas[other] for other in rest])
        cosine = total.cosine(delta)
        if min(total.length, others.length) < 1e-3:
            continue  # a direction of nothing
        assert cosine_to_others(cosine, length=total.length) == pytest.approx(others.cosine(delta), abs=1e-5)
        without = game(everybody - {place})
        assert worth_without(cosine, length=total.length) == pytest.approx(without, abs=1e-5)


@given(crowds)
def test_every_cosine_is_one_and_the_best_possible_is_to_agree(deltas: list[Vector]) -> None:
    total = summed(deltas)
    assert 0 <= total.length <= len(deltas) + 1e-9
    assert all(-1 <= total.cosine(delta) <= 1 for delta in deltas)


@given(crowds, st.floats(0.001, 1000))
def test_nobody_gains_by_being_louder(deltas: list[Vector], factor: float) -> None:
    louder = [deltas[0] * np.float32(factor), *deltas[1:]]
    if np.any(deltas[0]) and summed(deltas).length > 1e-3:
        assert summed(louder).cosine(louder[0]) == pytest.approx(summed(deltas).cosine(deltas[0]), abs=1e-4)


@given(crowds)
def test_the_exact_values_sum_to_the_worth_of_all(deltas: list[Vector]) -> None:
    game = cosine_game(deltas)
    assert sum(exact_shapley(game, len(deltas))) == pytest.approx(game(frozenset(range(len(deltas)))), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_cosine_ranks_as_the_exact_value_does(seed: int) -> None:
    """Honest updates around one direction, one at random, one against it: the claim of the paper, checked."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(500)
    deltas = [(direction + rng.standard_normal(500) * noise).astype(np.float32) for noise in (0.5, 0.8, 1.2, 2.0, 3.0)]
    deltas += [rng.standard_normal(500).astype(np.float32), (-direction + rng.standard_normal(500)).astype(np.float32)]
    total = summed(deltas)
    cosines = [total.cosine(delta) for delta in deltas]
    exact = exact_shapley(cosine_game(deltas), len(deltas))
    assert list(np.argsort(cosines)) == list(np.argsort(exact))
    scaled = np.array(cosines) / sum(cosines)
    assert np.abs(scaled - np.array(exact)).max() < 0.1


def test_copies_share_and_the_leave_one_out_value_of_each_is_next_to_nothing() -> None:
    """Why leave-one-out alone is no measure: two copies of a good worker both look useless."""
    deltas = [vector(1, 0), vector(1, 0), vector(1, 0.1)]
    total = summed(deltas)
    lost = leave_one_out(1.0, [worth_without(total.cosine(delta), length=total.length) for delta in deltas])
    assert max(lost) < 0.001
    assert exact_shapley(cosine_game(deltas), 3) == pytest.approx([1 / 3] * 3, abs=0.01)


def test_updates_that_cancel_out_or_are_nothing_contribute_nothing() -> None:
    for deltas in ([vector(1, 0), vector(-1, 0)], [vector(0, 0), vector(0, 0)]):
        total = summed(deltas)
        assert total.length == 0.0
        assert [total.cosine(delta) for delta in deltas] == [0.0, 0.0]
        assert exact_shapley(cosine_game(deltas), 2) == [0.0, 0.0]


def test_an_update_of_length_zero_moves_nobody() -> None:
    total = summed([vector(3, 4), vector(0, 0)])
    assert total.length == pytest.approx(1.0)
    assert (total.cosine(vector(3, 4)), total.cosine(vector(0, 0))) == (pytest.approx(1.0), 0.0)


def test_the_only_update_of_a_round_has_no_others() -> None:
    total = summed([vector(3, 4)])
    assert cosine_to_others(total.cosine(vector(3, 4)), length=total.length) == 0.0
    assert worth_without(1.0, length=1.0) == 0.0


def test_an_update_of_another_model_is_refused_and_leaves_the_sum() -> None:
    total = summed([vector(3, 4)])
    with pytest.raises(UpdateShapeMismatch):
        total.add(vector(1, 2, 3))
    assert total.length == pytest.approx(1.0)


def test_the_exact_value_is_refused_for_a_crowd() -> None:
    with pytest.raises(ValueError, match=str(MOST_PLAYERS)):
        exact_shapley(lambda players: 0.0, MOST_PLAYERS + 1)


def test_however_many_updates_come_the_memory_is_that_of_one_sum() -> None:
    size = 200_000
    delta = np.ones(size, dtype=np.float32)
    tracemalloc.start()
    total = UnitSum(size)
    for _ in range(30):
        total.add(delta)
        total.cosine(delta)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * size + 4 * 2**20
