"""The one equality: marked updates tell how often each of them is in a chain of models."""

import numpy as np
import pytest

from tests.fault.simulated.marks import times_counted

WEIGHTS = [[], [(1, 1.0), (2, 3.0)], [(3, 2.0)]]


def chain(*steps: list[float]) -> list[np.ndarray]:
    return [np.cumsum([np.zeros(5), *steps], axis=0)[n].astype(np.float32) for n in range(len(steps) + 1)]


def test_each_counted_once_is_one_whatever_it_weighs() -> None:
    assert times_counted(chain([0, 0.25, 0.75, 0, 0], [0, 0, 0, 1, 0]), WEIGHTS) == [0, 1, 1, 1, 0]


def test_a_lost_one_is_zero_and_a_doubled_one_two() -> None:
    assert times_counted(chain([0, 0, 0.75, 0, 0], [0, 0, 0, 2, 0]), WEIGHTS) == [0, 0, 1, 2, 0]


def test_an_invented_one_is_no_mark() -> None:
    with pytest.raises(AssertionError, match="no mark"):
        times_counted(chain([0, 0.25, 0.75, 0, 0.1], [0, 0, 0, 1, 0]), WEIGHTS)
