"""Compiled loops: what they give is what numpy gives, and who has no numba loses nothing but time."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numba import types

from fed_compute.errors import UpdateNotFinite
from fed_compute.learning import compiled, vectors
from fed_compute.learning.aggregation import WeightedMean
from fed_compute.learning.compiled import AT_ONCE
from fed_compute.learning.vectors import BLOCK, COMPILED_FROM, Vector, compiled_loops, l2_norm, require_finite

ANY_BITS = arrays.arrays(np.uint32, st.integers(1, 70)).map(lambda bits: bits.view(np.float32))
FINITE = arrays.arrays(np.float32, 40, elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
WEIGHTS = st.floats(width=32, min_value=2.0**-30, max_value=2.0**24, exclude_min=True)


@contextmanager
def machine(*, has_numba: bool) -> Iterator[None]:
    """Handle vectors as on a machine with or without numba."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "_load_compiled", lambda: compiled if has_numba else None)
        yield


@given(ANY_BITS)
def test_every_bit_pattern_is_called_finite_as_numpy_calls_it(values: Vector) -> None:
    assert compiled.all_finite(values) == bool(np.isfinite(values).all())


@given(FINITE)
def test_the_sum_of_squares_is_right_to_the_last_bits(values: Vector) -> None:
    wanted = math.fsum(float(value) ** 2 for value in values)
    assert compiled.sum_of_squares(values) == pytest.approx(wanted, rel=1e-14, abs=0.0)


@given(st.lists(st.tuples(FINITE, WEIGHTS), min_size=1, max_size=11))
def test_updates_of_any_magnitudes_are_added_to_the_same_bits(history: list[tuple[Vector, float]]) -> None:
    """A worker with numba and one without must come to the same version."""
    mean = WeightedMean(40)
    one_by_one, together = np.zeros((2, 2, 40), dtype=np.float64)
    for delta, weight in history:
        mean.add(delta, weight=weight)
        compiled.add_weighted(*one_by_one, delta, weight)
    for start in range(0, len(history), AT_ONCE):
        some = history[start : start + AT_ONCE]
        if len(some) == AT_ONCE:
            deltas, weights = zip(*some, strict=True)
            compiled.add_all_weighted(*together, deltas, weights)
        else:
            for delta, weight in some:
                compiled.add_weighted(*together, delta, weight)
    assert mean._sums.tobytes() == one_by_one.tobytes() == together.tobytes()


def averaged(deltas: Sequence[Vector]) -> bytes:
    mean = WeightedMean(deltas[0].size)
    mean.add_all(deltas, weights=[float(7 * number) for number in range(1, len(deltas) + 1)])
    return mean.result().tobytes()


def test_a_long_model_has_the_same_bytes_with_and_without_numba() -> None:
    rng = np.random.default_rng(3)
    factors = 10.0 ** rng.integers(-30, 30, (5, 1))
    deltas = (rng.standard_normal((5, BLOCK + 11)) * factors).astype(np.float32)
    with machine(has_numba=False):
        assert compiled_loops(deltas[0]) is None
        slow = averaged(list(deltas))
    with machine(has_numba=True):
        assert compiled_loops(deltas[0]) is compiled
        assert averaged(list(deltas)) == slow


def test_the_norm_of_a_long_vector_is_the_same_but_for_its_last_bits() -> None:
    values = np.random.default_rng(4).standard_normal(3 * BLOCK).astype(np.float32)
    with machine(has_numba=False):
        slow = l2_norm(values)
    with machine(has_numba=True):
        assert l2_norm(values) == pytest.approx(slow, rel=1e-13)


def laid_out(values: Vector) -> dict[str, Vector]:
    """Return equal values that lie in memory in different ways."""
    twice = np.repeat(values, 2)
    return {
        "read only": np.frombuffer(values.tobytes(), dtype=np.float32),
        "askew": np.frombuffer(b"\0" + values.tobytes(), dtype=np.uint8)[1:].view(np.float32),
        "with gaps": twice[::2],
        "backwards": values[::-1].copy()[::-1],
    }


@pytest.mark.parametrize("has_numba", [True, False])
def test_equal_values_have_equal_norms_and_means_however_they_lie(has_numba: bool) -> None:
    """A header of any length may stand before the values of an update, and a model is known among them by its norm."""
    values = np.random.default_rng(5).standard_normal(BLOCK + 7).astype(np.float32)
    views = laid_out(values)
    assert not views["askew"].flags.aligned
    with machine(has_numba=has_numba):
        assert {name: l2_norm(view) for name, view in views.items()} == dict.fromkeys(views, l2_norm(values))
        assert {averaged([view] * 5) for view in views.values()} == {averaged([values] * 5)}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, COMPILED_FROM // 2, COMPILED_FROM - 1])
def test_one_value_that_is_not_finite_is_found_among_many(value: float, place: int) -> None:
    values = np.ones(COMPILED_FROM, dtype=np.float32)
    values[place] = value
    assert not math.isfinite(l2_norm(values))
    with pytest.raises(UpdateNotFinite, match=f"1 value.* position {place}"):
        require_finite(values)


def test_values_at_both_ends_of_the_range_neither_overflow_nor_vanish() -> None:
    largest, smallest = np.finfo(np.float32).max, np.finfo(np.float32).smallest_subnormal
    for value in (largest, smallest):
        values = np.full(COMPILED_FROM, value, dtype=np.float32)
        assert l2_norm(values) == pytest.approx(float(value) * math.sqrt(COMPILED_FROM), rel=1e-12)


def test_loops_are_compiled_where_no_folder_can_keep_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container whose file system is read-only, say."""

    def njit(*given: Any, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("no locator available")
        return numba.njit(*given, **options)

    monkeypatch.setattr(compiled, "njit", njit)
    double = compiled._compiled(lambda x: 2 * x, types.int64(types.int64))
    assert double(21) == 42
