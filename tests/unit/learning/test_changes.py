"""How two models differ, tensor by tensor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fed_compute.learning.changes import change, changes

VALUES = st.floats(-1e3, 1e3, width=32)


def test_a_change_is_told_by_its_norms_its_direction_and_its_largest_value() -> None:
    before = np.array([[3.0, 0.0], [0.0, 4.0]], dtype=np.float32)
    after = np.array([[3.0, 0.0], [-12.0, 4.0]], dtype=np.float32)
    found = change("w", before, after)
    assert (found.norm_before, found.norm_after, found.norm_of_change) == (5.0, 13.0, 12.0)
    assert (found.largest, found.largest_at, found.size) == (12.0, (1, 0), 4)
    assert found.relative == pytest.approx(12 / 5)
    assert found.cosine == pytest.approx(25 / 65)


def test_of_nothing_there_is_no_direction() -> None:
    zero, one = np.zeros(2, dtype=np.float32), np.ones(2, dtype=np.float32)
    assert (change("w", zero, one).cosine, change("w", zero, one).relative) == (None, None)
    assert change("w", one, zero).relative == 1.0


def test_a_single_value_is_a_tensor_too() -> None:
    found = change("w", np.float32(1.0) * np.ones(()), np.float32(3.0) * np.ones(()))
    assert (found.largest, found.largest_at) == (2.0, ())


@given(arrays(np.float32, 8, elements=VALUES), arrays(np.float32, 8, elements=VALUES))
def test_the_parts_of_a_change_make_the_whole(before: np.ndarray, after: np.ndarray) -> None:  # type: ignore[type-arg]
    parts = changes({"a": before[:3], "b": before[3:]}, {"a": after[:3], "b": after[3:]})
    whole = change("", before, after)
    assert [part.name for part in parts] == ["a", "b"]
    assert sum(part.norm_of_change**2 for part in parts) == pytest.approx(whole.norm_of_change**2)
    assert max(part.largest for part in parts) == whole.largest
    assert whole.cosine is None or -1.0 <= whole.cosine <= 1.0
