"""A data set in memory, and its held-out part."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fed_compute.errors import DatasetInvalid

Features = npt.NDArray[np.float32] | npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

HOLDOUT_SEED = 0
"""A client's held-out samples are the same in every task, so no model is ever trained on them."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples and labels, row by row.

    `x` has shape (N, …), float32, or int64 for tokens. `y` has shape (N,) with int64 classes, or
    (N,) or (N, K) with float32 targets. `name` is the specification it came from.
    """

    x: Features
    y: Labels
    name: str

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: npt.NDArray[np.intp], name: str | None = None) -> "Dataset":
        """Return the given rows as a new data set (copies)."""
        return Dataset(self.x[rows], self.y[rows], name or self.name)


@dataclass(frozen=True, eq=False)
class RawSamples:
    """What a source read, before the part is cut out and types are settled.

    Any numeric type is fine: uint8 features are pixels and will be scaled to 0..1.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]


def settle(raw: RawSamples, name: str) -> Dataset:
    """Turn raw samples into a data set: pixels to 0..1, whole numbers to int64, the rest to float32.

    Raises:
        DatasetInvalid: if there are no samples, the lengths differ, or a value is not a finite number.
    """
    if len(raw.x) != len(raw.y) or len(raw.x) == 0:
        raise DatasetInvalid(f"{name}: found {len(raw.x)} samples and {len(raw.y)} labels, wanted as many, at least 1")
    return Dataset(_features(raw.x, name), _labels(raw.y, name), name)


def holdout_sizes(dataset: Dataset, fraction: float) -> tuple[int, int]:
    """Return how many samples `split_holdout` puts into the training part and into the held-out part.

    Raises:
        DatasetInvalid: if there are fewer than two samples, or the fraction is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise DatasetInvalid(f"the held-out fraction is {fraction}, wanted a number between 0 and 1")
    if len(dataset) < 2:
        raise DatasetInvalid(f"{dataset.name} has {len(dataset)} sample(s); to hold some out takes at least 2")
    held_out = num_held_out(len(dataset), fraction)
    return len(dataset) - held_out, held_out


def num_held_out(count: int, fraction: float) -> int:
    """Return how many of `count` samples, at least 2, are held out: `fraction`, rounded, at least 1 and not all."""
    return min(max(round(count * fraction), 1), count - 1)


def holdout_rows(count: int, held_out: int, *, seed: int) -> tuple[Rows, Rows]:
    """Return which of `count` rows are trained on, and which `held_out` are not, ascending; the same for one seed."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(count)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def split_holdout(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Return (training part, held-out part), disjoint, together everything, the same for the same seed.

    The held-out part has `fraction` of the samples, rounded, and each part at least one.

    Raises:
        DatasetInvalid: if there are fewer than two samples, or the fraction is not between 0 and 1.
    """
    _, held_out = holdout_sizes(dataset, fraction)
    training, held = holdout_rows(len(dataset), held_out, seed=seed)
    return dataset.take(training), dataset.take(held)


def _features(x: npt.NDArray[Any], name: str) -> Features:
    if x.dtype == np.uint8:
        return x.astype(np.float32) / np.float32(255.0)
    return _numbers(x, f"{name}: features")


def _labels(y: npt.NDArray[Any], name: str) -> Labels:
    return _numbers(y, f"{name}: labels")


def _numbers(values: npt.NDArray[Any], what: str) -> npt.NDArray[np.float32] | npt.NDArray[np.int64]:
    if values.dtype.kind in "biu":
        return np.require(values, np.int64, ["C", "W"])
    if values.dtype.kind != "f":
        raise DatasetInvalid(f"{what} have type {values.dtype}, wanted numbers")
    numbers = np.require(values, np.float32, ["C", "W"])
    if bad := int(numbers.size - np.isfinite(numbers).sum()):
        raise DatasetInvalid(f"{what} hold {bad} value(s) that are NaN, infinite or too large for float32")
    return numbers
