"""The Aggregator joins a rule and an optimiser and adds nothing of its own."""

import numpy as np
import pytest

from fed_compute.errors import NothingToAggregate, UpdateNotFinite
from fed_compute.learning.aggregation import Aggregator, OptimizerState, ServerMomentum, ServerSGD, WeightedMean


def test_two_updates_become_the_next_version_by_their_samples() -> None:
    aggregator = Aggregator(WeightedMean(2), ServerSGD())
    aggregator.add(np.array([1, 0], dtype=np.float32), num_samples=3)
    aggregator.add(np.array([0, 4], dtype=np.float32), num_samples=1)
    parameters, state = aggregator.finish(np.array([10, 10], dtype=np.float32), OptimizerState.initial())
    assert parameters.tolist() == [10.75, 11.0]
    assert (aggregator.num_updates, aggregator.num_samples) == (2, 4)
    assert state.vectors == {}


def test_the_state_goes_from_round_to_round() -> None:
    parameters, state = np.zeros(1, dtype=np.float32), OptimizerState.initial()
    for _ in range(2):
        aggregator = Aggregator(WeightedMean(1), ServerMomentum(lr=1.0, momentum=0.5))
        aggregator.add(np.array([1], dtype=np.float32), num_samples=1)
        parameters, state = aggregator.finish(parameters, state)
    assert parameters.tolist() == [1 + 1.5]


def test_a_round_in_which_every_update_was_refused_makes_no_version() -> None:
    aggregator = Aggregator(WeightedMean(1), ServerSGD())
    with pytest.raises(UpdateNotFinite):
        aggregator.add(np.array([np.nan], dtype=np.float32), num_samples=1)
    with pytest.raises(NothingToAggregate):
        aggregator.finish(np.zeros(1, dtype=np.float32), OptimizerState.initial())
