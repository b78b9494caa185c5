"""Inner products and mixed rows that no BLAS, thread or order can change."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_compute.learning.aggregation import ArrayMatrix
from fed_compute.learning.aggregation.cohort import Cohort
from fed_compute.learning.aggregation.gram import gram, product, squared_distances, squared_distances_to
from fed_compute.learning.aggregation.matrix import COLUMNS
from fed_compute.learning.aggregation.nearest_neighbor_mixing import MixedMatrix, NearestNeighborMixing


def rows(seed: int, n: int, size: int, *, decades: float = 3.0) -> npt.NDArray[np.float32]:
    """Rows whose values span some orders of magnitude."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, size)) * 10.0 ** rng.uniform(-decades, decades, (n, 1))).astype(np.float32)


@given(seed=st.integers(0, 2**32), n=st.integers(1, 20), size=st.integers(1, COLUMNS))
def test_columns_may_be_summed_in_any_order(seed: int, n: int, size: int) -> None:
    """BLAS sums in an order of its own, by machine and by thread. If no order matters, neither does BLAS."""
    deltas, rng = rows(seed, n, size), np.random.default_rng(seed)
    shuffled = deltas[:, rng.permutation(size)]
    assert gram(ArrayMatrix(deltas)).tobytes() == gram(ArrayMatrix(np.ascontiguousarray(shuffled))).tobytes()


@given(seed=st.integers(0, 2**32), n=st.integers(1, 20), size=st.integers(1, 3 * COLUMNS))
@settings(max_examples=25)
def test_the_order_of_the_updates_does_not_change_a_single_bit(seed: int, n: int, size: int) -> None:
    deltas, order = rows(seed, n, size), np.random.default_rng(seed).permutation(n)
    one, other = gram(ArrayMatrix(deltas)), gram(ArrayMatrix(deltas[order]))
    assert other.tobytes() == one[np.ix_(order, order)].tobytes()
    assert (one == one.T).all()


@given(seed=st.integers(0, 2**32), n=st.integers(1, 12), size=st.integers(1, 5_000))
@settings(max_examples=25)
def test_inner_products_are_those_of_float64(seed: int, n: int, size: int) -> None:
    deltas = rows(seed, n, size)
    wanted = deltas.astype(np.float64) @ deltas.astype(np.float64).T
    norms = np.sqrt(np.diagonal(wanted))
    assert (np.abs(gram(ArrayMatrix(deltas)) - wanted) <= 1e-6 * norms[:, None] * norms + 1e-300).all()


def test_the_largest_sums_are_exact() -> None:
    """Every product is as large as it can be; one bit more would be rounded."""
    deltas = np.full((3, COLUMNS), 2 - 2.0**-20, dtype=np.float32)
    deltas[1] *= -1
    wanted = COLUMNS * (2 - 2.0**-20) ** 2
    assert gram(ArrayMatrix(deltas))[0].tolist() == [wanted, -wanted, wanted]


def test_near_twins_are_told_apart_from_each_other_and_from_copies() -> None:
    """‖a - b‖² from inner products loses half the digits in float32; here a thousandth of a per mille remains."""
    base = np.random.default_rng(0).standard_normal(10_000)
    nudge = 1e-5 * np.random.default_rng(1).standard_normal(10_000)
    deltas = np.stack([base, base + nudge, base]).astype(np.float32)
    distances = squared_distances(gram(ArrayMatrix(deltas)))
    wanted = float(np.linalg.norm(deltas[0].astype(np.float64) - deltas[1]) ** 2)
    assert distances[0, 1] == pytest.approx(wanted, rel=0.05)
    assert distances[0, 2] == 0.0


def test_zeros_subnormals_and_giants_have_inner_products_too() -> None:
    deltas = np.array([[0, 0], [1e-45, 0], [3e38, -3e38], [1, 1]], dtype=np.float32)
    found = gram(ArrayMatrix(deltas))
    assert np.isfinite(found).all()
    assert found[0].tolist() == [0, 0, 0, 0]
    assert found[1, 1] == pytest.approx(float(np.float32(1e-45)) ** 2, rel=1e-6)
    assert found[2, 3] == 0.0


def test_small_products_need_no_blas() -> None:
    rng = np.random.default_rng(3)
    left, right = rng.standard_normal((4, 6)), rng.standard_normal((6, 5))
    np.testing.assert_allclose(product(left, right), left @ right, rtol=1e-12)


@given(seed=st.integers(0, 2**32), n=st.integers(2, 12))
def test_distances_to_a_mix_of_updates(seed: int, n: int) -> None:
    deltas = rows(seed, n, 50, decades=1.0)
    point = np.random.default_rng(seed).standard_normal(n)
    exact = deltas.astype(np.float64)
    wanted = np.linalg.norm(exact - point @ exact, axis=1) ** 2
    found = squared_distances_to(point, gram(ArrayMatrix(deltas)))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.max()))


# --- mixing -------------------------------------------------------------------------------------


def mixed(deltas: npt.NDArray[np.float32], f: int, weights: npt.NDArray[np.float64]) -> MixedMatrix:
    """Mix each row with its nearest."""
    cohort, _ = NearestNeighborMixing().prepare(Cohort(ArrayMatrix(deltas), weights, num_liars=f), seed=0)
    assert isinstance(cohort.matrix, MixedMatrix)
    return cohort.matrix


@given(seed=st.integers(0, 2**32), n=st.integers(3, 40), weighted=st.booleans(), decades=st.floats(0, 12))
def test_mixed_rows_do_not_depend_on_the_order_of_the_sum(seed: int, n: int, weighted: bool, decades: float) -> None:
    rng = np.random.default_rng(seed)
    deltas = rows(seed, n, 64, decades=decades)
    weights = rng.integers(1, 1000, size=n).astype(np.float64) if weighted else np.ones(n)
    order = rng.permutation(n)
    one = mixed(deltas, n // 4, weights).block(slice(0, 64))
    other = mixed(deltas[order], n // 4, weights[order]).block(slice(0, 64))
    assert (other == one[order]).all()


@given(seed=st.integers(0, 2**32), n=st.integers(3, 40), giant=st.sampled_from([1e6, 1e20, 1e35]))
def test_a_giant_does_not_drown_the_means_that_it_has_no_part_in(seed: int, n: int, giant: float) -> None:
    deltas = np.random.default_rng(seed).standard_normal((n, 64)).astype(np.float32)
    deltas[0, 5] = giant
    found = mixed(deltas, 1, np.ones(n)).block(slice(0, 64))
    wanted = deltas[1:].astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(found[1:], np.tile(wanted, (n - 1, 1)), rtol=0, atol=1e-4)
    assert found[0, 5] == pytest.approx(giant / (n - 1), rel=1e-3)


def test_values_too_small_to_have_a_unit_are_mixed_as_nothing() -> None:
    deltas = np.full((5, 3), 1e-40, dtype=np.float32)
    deltas[:, 1] = 2.0
    assert mixed(deltas, 1, np.ones(5)).block(slice(0, 3)).tolist() == [[0.0, 2.0, 0.0]] * 5
