"""Where the updates of a round lie, and how they are read."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from fed_compute.errors import InvariantBroken, UpdateNotFinite, UpdateShapeMismatch
from fed_compute.learning.aggregation import ArrayMatrix, FileMatrix
from fed_compute.learning.aggregation.matrix import COLUMNS, StackedMatrix, column_blocks, weighted_rows


def test_blocks_cover_every_column_once() -> None:
    size = 2 * COLUMNS + 5
    parts = list(column_blocks(size))
    assert [part.start for part in parts] == [0, COLUMNS, 2 * COLUMNS]
    assert parts[-1].stop == size


def test_rows_in_a_file_can_be_read_while_others_still_come(tmp_path: Path) -> None:
    matrix = FileMatrix(tmp_path, num_parameters=5)
    matrix.append(np.arange(5, dtype=np.float32))
    assert matrix.block(slice(1, 3)).tolist() == [[1, 2]]
    matrix.append(np.full(5, 9, dtype=np.float32)[::1])
    matrix.append(np.arange(10, dtype=np.float32)[::2])  # not contiguous
    assert matrix.block(slice(1, 3)).tolist() == [[1, 2], [9, 9], [2, 4]]
    assert (matrix.num_updates, matrix.num_parameters) == (3, 5)


def test_a_file_leaves_nothing_behind(tmp_path: Path) -> None:
    """It has no name, so a process that is killed leaves nothing either; and no descriptor stays open."""
    open_before = len(os.listdir("/proc/self/fd"))
    matrix = FileMatrix(tmp_path, num_parameters=3)
    matrix.append(np.ones(3, dtype=np.float32))
    matrix.block(slice(0, 3))
    assert list(tmp_path.iterdir()) == []
    del matrix
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_refused_row_is_not_in_the_file(tmp_path: Path) -> None:
    matrix = FileMatrix(tmp_path, num_parameters=2)
    for bad, error in (
        (np.array([1, np.nan], dtype=np.float32), UpdateNotFinite),
        (np.ones(3, dtype=np.float32), UpdateShapeMismatch),
        (np.ones(2), TypeError),
    ):
        with pytest.raises(error):
            matrix.append(bad)  # type: ignore[arg-type]
    assert matrix.num_updates == 0


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3,), (1, 2, 3)])
def test_what_is_no_matrix_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UpdateShapeMismatch):
        ArrayMatrix(np.ones(shape, dtype=np.float32))


def test_rows_of_another_type_or_with_nan_are_refused() -> None:
    with pytest.raises(TypeError, match="float64"):
        ArrayMatrix(np.ones((2, 2)))  # type: ignore[arg-type]
    with pytest.raises(UpdateNotFinite):
        ArrayMatrix(np.array([[1, 1], [1, np.inf]], dtype=np.float32))


def test_a_row_below_is_read_with_the_others() -> None:
    matrix = StackedMatrix(ArrayMatrix(np.ones((2, 4), dtype=np.float32)), np.arange(4, dtype=np.float32))
    assert matrix.block(slice(2, 4)).tolist() == [[1, 1], [1, 1], [2, 3]]
    assert (matrix.num_updates, matrix.num_parameters) == (3, 4)
    with pytest.raises(InvariantBroken):
        StackedMatrix(matrix, np.array([0, 0, 0, np.inf], dtype=np.float32))


def test_rows_are_added_with_their_factors_and_no_zero_is_negative() -> None:
    deltas = np.array([[1, -1, 0], [3, 3, 0], [100, 100, -1]], dtype=np.float32)
    found = weighted_rows(ArrayMatrix(deltas), np.array([0.5, 0.25, 0.0]))
    assert found.tolist() == [1.25, 0.25, 0.0]
    assert not np.signbit(weighted_rows(ArrayMatrix(deltas), np.array([0.0, 0.0, 0.0]))).any()
