"""What one virtual client trains on."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from fed_compute.client.datasets import Dataset

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Shard:
    """Some rows, shape (m,), int64, m ≥ 1, of a data set. A row may be there more than once.

    Nothing is copied, so a million shards of one data set take the memory of their row numbers.
    """

    dataset: Dataset
    rows: Rows

    @classmethod
    def whole(cls, dataset: Dataset) -> Self:
        """Return the shard of all rows, in their order."""
        return cls(dataset, np.arange(len(dataset), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def samples(self) -> Dataset:
        """Return the shard's samples as a data set of its own (copies)."""
        return self.dataset.take(self.rows)
