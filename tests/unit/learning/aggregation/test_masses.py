"""Counting by weight."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.learning.aggregation.masses import kept_mass, nearest_mass, weighted_median
from fed_compute.learning.aggregation.sorting import sorted_values, sorted_with_weights

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def test_what_lies_between_two_marks_is_kept_and_cut_at_the_marks() -> None:
    assert kept_mass(np.array([1.0, 2.0, 3.0, 4.0]), low=0.5, high=7.0).tolist() == [0.5, 2.0, 3.0, 1.0]
    assert kept_mass(np.array([[1.0, 1.0], [3.0, 1.0]]), low=1.0, high=2.0).tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_the_nearest_are_used_until_the_quota_is_full() -> None:
    used = nearest_mass(np.array([2, 0, 1]), np.array([1.0, 5.0, 2.0]), quota=4.0)
    assert used.tolist() == [1.0, 1.0, 2.0]


@given(st.lists(st.tuples(FLOATS, st.integers(1, 9)), min_size=1, max_size=20))
def test_a_value_of_weight_k_counts_k_times_in_the_median(values: list[tuple[float, int]]) -> None:
    numbers, weights = np.array([v for v, _ in values]), np.array([float(k) for _, k in values])
    wanted = np.median(np.repeat(numbers, weights.astype(int)))
    assert weighted_median(numbers, weights) == pytest.approx(wanted, rel=1e-12, abs=1e-300)


@given(st.integers(1, 12), st.integers(1, 8), st.data())
def test_values_of_any_sign_and_size_are_sorted_with_their_weights(n: int, size: int, data: st.DataObject) -> None:
    drawn = data.draw(st.lists(FLOATS, min_size=n * size, max_size=n * size))
    block = np.array(drawn, dtype=np.float32).reshape(n, size)
    weights = np.arange(1.0, n + 1)
    values, sorted_weights = sorted_with_weights(block, weights)
    assert (values == np.sort(block, axis=0).T).all()
    assert (sorted_values(block) == np.sort(block, axis=0).T).all()
    for place in range(size):
        pairs = {(float(v), w) for v, w in zip(block[:, place], weights, strict=True)}
        assert {(float(v), w) for v, w in zip(values[place], sorted_weights[place], strict=True)} == pairs
