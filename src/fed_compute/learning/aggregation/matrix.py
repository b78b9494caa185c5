"""The updates of one round as a matrix that is read in blocks of columns, and where its rows lie."""

import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fed_compute.errors import InvariantBroken, UpdateShapeMismatch
from fed_compute.learning.vectors import Vector, non_finite, require_finite, require_float32, require_shape

Matrix = npt.NDArray[np.float32]
"""Shape (rows, columns), float32."""
Matrix64 = npt.NDArray[np.float64]
"""Shape (rows, columns), float64."""

COLUMNS = 2_048
"""Columns worked on at once. Part of the arithmetic: the Gram matrix is rounded once per this many columns."""


def column_blocks(num_parameters: int) -> Iterator[slice]:
    """Cut 0 to `num_parameters` into slices of `COLUMNS`, the last one shorter."""
    for start in range(0, num_parameters, COLUMNS):
        yield slice(start, min(start + COLUMNS, num_parameters))


class UpdateMatrix(Protocol):
    """The updates of one round: one row each, in recorded order, all finite."""

    @property
    def num_updates(self) -> int:
        """Rows, n."""
        ...

    @property
    def num_parameters(self) -> int:
        """Columns, P."""
        ...

    def block(self, part: slice) -> Matrix:
        """Return the columns of `part`, float32 (n, B). The caller must not write to it."""
        ...


class ArrayMatrix:
    """Updates that lie in memory, float32 (n, P). The array is kept, not copied."""

    def __init__(self, deltas: Matrix) -> None:
        """Check the array.

        Raises:
            TypeError: if it is not float32; a wider type would be rounded without a word.
            UpdateShapeMismatch: if it is not a matrix with at least one row and one column.
            UpdateNotFinite: if a row holds NaN or an infinity.
        """
        if deltas.dtype != np.float32:
            raise TypeError(f"deltas must be float32, got {deltas.dtype}")
        if deltas.ndim != 2 or 0 in deltas.shape:
            raise UpdateShapeMismatch("deltas", got=deltas.shape, want=(max(1, len(deltas)), 1))
        for row in deltas:
            require_finite(row)
        self._deltas = deltas

    @property
    def num_updates(self) -> int:
        return int(self._deltas.shape[0])

    @property
    def num_parameters(self) -> int:
        return int(self._deltas.shape[1])

    def block(self, part: slice) -> Matrix:
        return self._deltas[:, part]


class FileMatrix:
    """Updates in a file of raw float32 rows, mapped into memory: the disk holds them, the page cache serves them.

    The file has no name and lies in `folder`; it is gone with this object or its process.
    """

    def __init__(self, folder: Path, *, num_parameters: int) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (it lives as long as this object)
        weakref.finalize(self, self._file.close)
        self._num_parameters = num_parameters
        self._num_updates = 0
        self._rows: Matrix | None = None

    @property
    def num_updates(self) -> int:
        return self._num_updates

    @property
    def num_parameters(self) -> int:
        return self._num_parameters

    def append(self, *deltas: Vector) -> None:
        """Write updates, each float32 (P,), as the next rows. If one is refused, none leaves a trace.

        Raises:
            UpdateShapeMismatch: if one is not of shape (P,).
            UpdateNotFinite: if one holds NaN or an infinity.
            TypeError: if one is not float32; a wider type would be rounded without a word.
        """
        for delta in deltas:
            require_float32(delta, self._num_parameters, what="delta")
            require_finite(delta)
        self._file.seek(4 * self._num_parameters * self._num_updates)
        for delta in deltas:
            self._file.write(np.ascontiguousarray(delta).data)
        self._file.flush()
        self._rows = None
        self._num_updates += len(deltas)

    def block(self, part: slice) -> Matrix:
        if self._rows is None:
            shape = (self._num_updates, self._num_parameters)
            self._rows = np.memmap(self._file, dtype=np.float32, mode="r", shape=shape).view(np.ndarray)
        return self._rows[:, part]


class StackedMatrix:
    """A matrix with one more row below it, float32 (P,)."""

    def __init__(self, matrix: UpdateMatrix, last_row: Vector) -> None:
        require_shape(last_row, matrix.num_parameters, what="last_row")
        if non_finite(last_row)[0]:
            raise InvariantBroken("the row below the updates is not finite")
        self._matrix = matrix
        self._last_row = last_row

    @property
    def num_updates(self) -> int:
        return self._matrix.num_updates + 1

    @property
    def num_parameters(self) -> int:
        return self._matrix.num_parameters

    def block(self, part: slice) -> Matrix:
        return np.vstack([self._matrix.block(part), self._last_row[None, part]])


class ScaledMatrix:
    """Each row times a float32 factor of its own."""

    def __init__(self, matrix: UpdateMatrix, factors: Vector) -> None:
        self._matrix = matrix
        self._factors = factors[:, None]

    @property
    def num_updates(self) -> int:
        return self._matrix.num_updates

    @property
    def num_parameters(self) -> int:
        return self._matrix.num_parameters

    def block(self, part: slice) -> Matrix:
        return self._matrix.block(part) * self._factors


def largest_values(block: Matrix) -> Vector:
    """Return the largest absolute value of each row."""
    largest: Vector = np.maximum(block.max(axis=1), -block.min(axis=1))
    return largest


def weighted_rows(matrix: UpdateMatrix, factors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return Σ factors_i · row_i, float64 (P,): one pass, rows in order, one multiplication and one addition each.

    No BLAS: the same bits on every machine. A row whose factor is 0 is not read.
    """
    total = np.zeros(matrix.num_parameters, dtype=np.float64)
    used = np.flatnonzero(factors)
    for part in column_blocks(matrix.num_parameters):
        block, into = matrix.block(part), total[part]
        for i in used:
            into += np.multiply(block[i], factors[i], dtype=np.float64)
    total += 0.0  # no negative zeros: their sign would depend on the order
    return total
