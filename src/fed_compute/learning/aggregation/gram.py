"""Inner products of all pairs of updates, the same bits on every machine.

Sums of products by BLAS depend on its kernels and threads, which differ between machines. They cannot
when no rounding happens: each row of a block is first rounded to whole multiples of a power of two of
its own, at most 2**21 of them, so that 2 048 products add up to at most 2**53, exactly, in any order.
What is rounded is at most 2**-22 of the largest value of that row in that block, less than float32 sums
lose. Blocks are then added in order.
"""

import math

import numpy as np

from fed_compute.learning.aggregation.matrix import (
    COLUMNS,
    Matrix,
    Matrix64,
    UpdateMatrix,
    column_blocks,
    largest_values,
)
from fed_compute.learning.vectors import Vector64

BITS = (53 - (COLUMNS - 1).bit_length()) // 2


def gram(matrix: UpdateMatrix) -> Matrix64:
    """Return X·Xᵀ, float64 (n, n), exactly symmetric. Equal rows give equal entries to the bit.

    Cost: one pass over the updates, n²·P/2 multiplications by BLAS. Memory: two blocks of n × 2 048 float64.
    """
    n = matrix.num_updates
    total, products = np.zeros((n, n), dtype=np.float64), np.empty((n, n), dtype=np.float64)
    whole = np.empty((n, min(COLUMNS, matrix.num_parameters)), dtype=np.float64)
    for part in column_blocks(matrix.num_parameters):
        used = whole[:, : part.stop - part.start]
        unit = _round_to_whole(matrix.block(part), used)
        np.matmul(used, used.T, out=products)
        products *= unit[:, None]  # powers of two: exact
        products *= unit
        total += products
    return total


def squared_lengths(matrix: UpdateMatrix) -> Vector64:
    """Return the diagonal of `gram` without the rest, float64 (n,). One pass."""
    total = np.zeros(matrix.num_updates, dtype=np.float64)
    whole = np.empty((matrix.num_updates, min(COLUMNS, matrix.num_parameters)), dtype=np.float64)
    for part in column_blocks(matrix.num_parameters):
        used = whole[:, : part.stop - part.start]
        unit = _round_to_whole(matrix.block(part), used)
        total += np.square(used, out=used).sum(axis=1) * unit * unit
    return total


def _round_to_whole(block: Matrix, whole: Matrix64) -> Vector64:
    """Write whole numbers of size 2**BITS at most to `whole`, (n, B), and return each row's unit: together, near it."""
    _, exponents = np.frexp(largest_values(block))
    np.multiply(block, np.ldexp(1.0, BITS - exponents)[:, None], dtype=np.float64, out=whole)
    np.rint(whole, out=whole)
    units: Vector64 = np.ldexp(1.0, exponents - BITS)
    return units


def product(left: Matrix64, right: Matrix64) -> Matrix64:
    """Return the matrix product of two small matrices, without BLAS: the same bits on every machine."""
    total = np.zeros((left.shape[0], right.shape[1]), dtype=np.float64)
    for k in range(left.shape[1]):
        total += left[:, k : k + 1] * right[k]
    return total


def squared_distances(gram_: Matrix64) -> Matrix64:
    """Return ‖x_i - x_j‖² from inner products, never below 0, and 0 on the diagonal."""
    norms = np.diagonal(gram_)
    distances = norms[:, None] + norms - 2.0 * gram_
    np.maximum(distances, 0.0, out=distances)
    np.fill_diagonal(distances, 0.0)
    return distances


def squared_distances_to(point: Vector64, gram_: Matrix64) -> Vector64:
    """Return ‖x_i - z‖² for z = Σ point_j · x_j, float64 (n,), never below 0."""
    towards = np.cumsum(gram_ * point, axis=1)[:, -1]  # added from left to right, as a plain sum is not
    squares: Vector64 = np.maximum(np.diagonal(gram_) - 2.0 * towards + math.fsum(point * towards), 0.0)
    return squares
