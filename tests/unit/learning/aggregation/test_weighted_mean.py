"""Federated averaging: right, in any order, in bounded memory, and deaf to bad input."""

import random
import tracemalloc
import weakref
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import (
    NothingToAggregate,
    UpdateNotFinite,
    UpdateShapeMismatch,
)
from fed_compute.learning import vectors
from fed_compute.learning.aggregation import AggregationRule, WeightedMean
from fed_compute.learning.vectors import BLOCK, COMPILED_FROM

Update = tuple[npt.NDArray[np.float32], int]

ORDINARY = st.floats(width=32, min_value=-(2.0**20), max_value=2.0**20).filter(lambda x: x == 0 or abs(x) >= 2.0**-20)
ANY_FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def updates(values: st.SearchStrategy[float], *, size: int = 4) -> st.SearchStrategy[list[Update]]:
    """Lists of updates of `size` values, with sample counts up to the limit."""
    delta = st.lists(values, min_size=size, max_size=size).map(lambda v: np.array(v, dtype=np.float32))
    return st.lists(st.tuples(delta, st.integers(1, 10_000_000)), min_size=1, max_size=12)


def folded(history: list[Update]) -> npt.NDArray[np.float64]:
    mean = WeightedMean(history[0][0].size)
    for delta, num_samples in history:
        mean.add(delta, weight=num_samples)
    return mean.result()


def exact_mean(history: list[Update]) -> list[Fraction]:
    """The slow reference: FedAvg in rational numbers, without any rounding."""
    total = sum(num_samples for _, num_samples in history)
    return [
        sum((Fraction(float(delta[i])) * num_samples for delta, num_samples in history), Fraction()) / total
        for i in range(history[0][0].size)
    ]


@given(updates(ORDINARY), st.randoms(use_true_random=False))
def test_ordinary_updates_give_the_same_bits_in_any_order(history: list[Update], chance: random.Random) -> None:
    """Clients race; the model they make must not depend on who wins."""
    shuffled = history.copy()
    chance.shuffle(shuffled)
    assert folded(history).tobytes() == folded(shuffled).tobytes()


@given(updates(ORDINARY), st.randoms(use_true_random=False))
def test_weights_that_are_no_whole_numbers_give_the_same_bits_in_any_order(
    history: list[Update], chance: random.Random
) -> None:
    """Newcomers beside established clients are scaled down to such weights."""
    scaled = [(delta, float(np.float32(weight / 3))) for delta, weight in history]
    shuffled = scaled.copy()
    chance.shuffle(shuffled)
    one, other = (WeightedMean(4), WeightedMean(4))
    for mean, order in ((one, scaled), (other, shuffled)):
        for delta, weight in order:
            mean.add(delta, weight=weight)
    assert one.result().tobytes() == other.result().tobytes()


@given(updates(ORDINARY))
def test_ordinary_updates_are_averaged_to_the_last_bit_but_one(history: list[Update]) -> None:
    for found, wanted in zip(folded(history), exact_mean(history), strict=True):
        assert abs(Fraction(float(found)) - wanted) <= abs(wanted) * Fraction(1, 2**52)


@given(updates(ANY_FLOAT32))
def test_no_magnitudes_can_push_the_sum_further_than_promised(history: list[Update]) -> None:
    """N² · 2**-106 · S, and the two roundings of the division."""
    total = sum(num_samples for _, num_samples in history)
    for i, (found, wanted) in enumerate(zip(folded(history), exact_mean(history), strict=True)):
        magnitude = sum((abs(Fraction(float(delta[i]))) * n for delta, n in history), Fraction()) / total
        allowed = len(history) ** 2 * magnitude / 2**106 + abs(wanted) / 2**51 + Fraction(1, 2**1074)
        assert abs(Fraction(float(found)) - wanted) <= allowed


@pytest.mark.parametrize("seed", range(20))
def test_cancelling_giants_do_not_drown_small_updates_in_any_order(seed: int) -> None:
    """A plain float64 sum fails here: 1e15 and 1 do not fit beside each other with a weight."""
    rng = np.random.default_rng(seed)
    small = [(rng.standard_normal(64).astype(np.float32), int(rng.integers(1, 1000))) for _ in range(20)]
    giants = [
        (np.float32(10.0 ** rng.integers(8, 16)) * np.sign(rng.standard_normal(64)), 10_000_000) for _ in range(5)
    ]
    history = [
        *small,
        *((g.astype(np.float32), n) for g, n in giants),
        *((-g.astype(np.float32), n) for g, n in giants),
    ]
    results = []
    for _ in range(5):
        order = rng.permutation(len(history))
        results.append(folded([history[i] for i in order]).astype(np.float32))
    assert {result.tobytes() for result in results} == {results[0].tobytes()}
    wanted = np.array([float(value) for value in exact_mean(history)])
    np.testing.assert_allclose(results[0], wanted, rtol=1e-6, atol=0)


def test_it_agrees_with_a_plain_numpy_average() -> None:
    rng = np.random.default_rng(5)
    deltas = rng.standard_normal((30, 1000)).astype(np.float32)
    counts = rng.integers(1, 5000, size=30)
    plain = (deltas.astype(np.float64) * counts[:, None]).sum(axis=0) / counts.sum()
    found = folded([(delta, int(count)) for delta, count in zip(deltas, counts, strict=True)])
    np.testing.assert_allclose(found, plain, rtol=1e-6, atol=1e-12)


@given(ANY_FLOAT32, st.integers(1, 10_000_000))
def test_one_update_alone_comes_back_unchanged(value: float, num_samples: int) -> None:
    delta = np.full(3, value, dtype=np.float32)
    assert folded([(delta, num_samples)]).astype(np.float32).tobytes() == (delta + np.float32(0)).tobytes()


@given(updates(ANY_FLOAT32), st.sets(st.integers(1, 11)))
def test_however_updates_are_grouped_the_sums_have_the_same_bits(history: list[Update], cuts: set[int]) -> None:
    """A worker that folds as they come and one that takes over in the middle must make the same version."""
    alone, grouped = WeightedMean(4), WeightedMean(4)
    for delta, weight in history:
        alone.add(delta, weight=weight)
    for start, end in pairwise(sorted({0, len(history), *(cut for cut in cuts if cut < len(history))})):
        deltas, weights = zip(*history[start:end], strict=True)
        grouped.add_all(deltas, weights=weights)
    assert grouped._sums.tobytes() == alone._sums.tobytes()
    assert grouped.weights == alone.weights


@pytest.mark.parametrize("size", [5, COMPILED_FROM + 3])
def test_a_long_round_is_weighed_anew_group_by_group(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(vectors, "GROUP_BYTES", 4 * size * 6)
    rng = np.random.default_rng(2)
    deltas = rng.standard_normal((15, size)).astype(np.float32)
    asked: list[weakref.ref[npt.NDArray[np.float32]]] = []
    in_memory: list[int] = []

    def again() -> Iterator[npt.NDArray[np.float32]]:
        for delta in deltas:
            copy = delta.copy()
            asked.append(weakref.ref(copy))
            in_memory.append(sum(one() is not None for one in asked))
            yield copy

    mean, wanted = WeightedMean(size), WeightedMean(size)
    mean.add_all(list(deltas[:9]), weights=[3.0] * 9)
    mean.add_all(list(deltas[9:]), weights=[3.0] * 6)
    weights = [float(n) for n in range(1, 16)]
    mean.reweigh(weights, again())
    for delta, weight in zip(deltas, weights, strict=True):
        wanted.add(delta, weight=weight)
    assert mean.result().tobytes() == wanted.result().tobytes()
    assert (mean.weights, len(asked)) == (tuple(weights), 15)
    assert max(in_memory) <= 6 + 1


def test_blocks_do_not_show() -> None:
    """A model longer than a block is averaged like a short one, at the seams too."""
    rng = np.random.default_rng(1)
    size = 2 * BLOCK + 3
    history = [(rng.standard_normal(size).astype(np.float32), n) for n in (1, 7, 1000)]
    whole = folded(history)
    for place in (0, BLOCK - 1, BLOCK, 2 * BLOCK - 1, 2 * BLOCK, size - 1):
        alone = folded([(delta[place : place + 1], n) for delta, n in history])
        assert whole[place] == alone[0]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("delta", "weight", "error"),
    [
        ([1.0, 2.0], 1, UpdateShapeMismatch),
        ([[1.0, 2.0, 3.0]], 1, UpdateShapeMismatch),
        ([1.0, NAN, 3.0], 1, UpdateNotFinite),
        ([1.0, 2.0, INF], 1, UpdateNotFinite),
        ([1.0, 2.0, -INF], 1, UpdateNotFinite),
        ([1.0, 2.0, 3.0], 0, ValueError),
        ([1.0, 2.0, 3.0], -5, ValueError),
        ([1.0, 2.0, 3.0], 2**24 + 1, ValueError),
        ([1.0, 2.0, 3.0], 1 / 3, ValueError),
    ],
)
def test_a_refused_update_leaves_no_trace(delta: list[float], weight: float, error: type[Exception]) -> None:
    mean = WeightedMean(3)
    mean.add(np.array([1, 2, 3], dtype=np.float32), weight=2)
    before = (mean.result().tobytes(), mean.num_updates, mean.weights)
    with pytest.raises(error):
        mean.add(np.array(delta, dtype=np.float32), weight=weight)
    for place in range(3):  # among others that are sound
        some = [np.full(3, k, dtype=np.float32) for k in (1, 2)]
        some.insert(place, np.array(delta, dtype=np.float32))
        weights: list[float] = [1, 1]
        weights.insert(place, weight)
        with pytest.raises(error):
            mean.add_all(some, weights=weights)
    assert (mean.result().tobytes(), mean.num_updates, mean.weights) == before


def test_a_bad_value_in_the_last_block_leaves_no_trace_in_the_first() -> None:
    mean = WeightedMean(BLOCK + 1)
    mean.add(np.ones(BLOCK + 1, dtype=np.float32), weight=1)
    bad = np.ones(BLOCK + 1, dtype=np.float32)
    bad[BLOCK] = np.nan
    with pytest.raises(UpdateNotFinite, match=f"1 value.* position {BLOCK}"):
        mean.add(bad, weight=1)
    with pytest.raises(UpdateNotFinite, match=f"1 value.* position {BLOCK}"):
        mean.add_all([np.ones_like(bad)] * 4 + [bad], weights=[1] * 5)
    assert (mean.result() == 1).all()


def test_a_wider_type_is_not_rounded_without_a_word() -> None:
    with pytest.raises(TypeError, match="float64"):
        WeightedMean(1).add(np.ones(1), weight=1)  # type: ignore[arg-type]


def test_a_mean_of_nothing_is_an_error() -> None:
    with pytest.raises(NothingToAggregate):
        WeightedMean(3).result()


def test_the_sender_s_array_is_neither_changed_nor_kept() -> None:
    delta = np.ones(3, dtype=np.float32)
    mean = WeightedMean(3)
    mean.add(delta, weight=4)
    assert (delta == 1).all()
    delta[:] = 9
    assert (mean.result() == 1).all()


def test_a_result_can_be_asked_for_in_between_and_stays_as_it_was() -> None:
    mean = WeightedMean(1)
    mean.add(np.array([1], dtype=np.float32), weight=1)
    early = mean.result()
    mean.add(np.array([3], dtype=np.float32), weight=1)
    assert (early[0], mean.result()[0]) == (1, 2)


def test_memory_stays_flat_however_many_updates_come() -> None:
    """O(model): 10, 50 and 200 updates peak alike, and near two float64 numbers per parameter."""
    size = 4 * BLOCK
    delta = np.ones(size, dtype=np.float32)
    peaks = {}
    for count in (10, 50, 200):
        tracemalloc.start()
        mean = WeightedMean(size)
        for _ in range(count):
            mean.add(delta, weight=3)
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert max(peaks.values()) <= min(peaks.values()) + 4096
    assert max(peaks.values()) <= 16 * size + 4 * 8 * BLOCK


def test_many_updates_at_once_need_a_second_pair_of_sums_and_no_more() -> None:
    size = 4 * BLOCK
    deltas = [np.ones(size, dtype=np.float32)] * 40
    tracemalloc.start()
    mean = WeightedMean(size)
    for _ in range(5):
        mean.add_all(deltas, weights=[3] * 40)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 32 * size + 4 * 8 * BLOCK


def test_it_fills_the_port() -> None:
    rule: AggregationRule = WeightedMean(1)
    assert (rule.num_updates, rule.weights) == (0, ())
