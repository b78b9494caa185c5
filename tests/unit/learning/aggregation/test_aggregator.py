"""The Aggregator joins a rule and an optimiser and adds nothing of its own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fed_compute.errors import NothingToAggregate, UpdateNotFinite
from fed_compute.learning.aggregation import (
    Aggregator,
    OptimizerState,
    RobustFold,
    ServerMomentum,
    ServerSGD,
    WeightedMean,
    new_rule,
)
from fed_compute.learning.vectors import Vector


def vector(*values: float) -> Vector:
    """Return a float32 vector."""
    return np.array(values, dtype=np.float32)


def test_two_updates_become_the_next_version_by_their_weights() -> None:
    aggregator = Aggregator(WeightedMean(2), ServerSGD())
    aggregator.add_all([vector(1, 0), vector(0, 4)], weights=[3, 1])
    after = aggregator.finish(vector(10, 10), OptimizerState.initial())
    assert after.parameters.tolist() == [10.75, 11.0]
    assert after.outcome.mean.tolist() == [0.75, 1.0]
    assert (aggregator.num_updates, after.state.vectors) == (2, {})


def test_a_scaled_step_goes_a_part_of_the_way_and_the_mean_is_told_whole() -> None:
    aggregator = Aggregator(WeightedMean(2), ServerSGD())
    aggregator.add_all([vector(1, -4)], weights=[3])
    after = aggregator.finish(vector(10, 10), OptimizerState.initial(), step_scale=0.25)
    assert after.parameters.tolist() == [10.25, 9.0]
    assert after.outcome.mean.tolist() == [1.0, -4.0]


def test_the_state_goes_from_round_to_round() -> None:
    parameters, state = np.zeros(1, dtype=np.float32), OptimizerState.initial()
    for _ in range(2):
        aggregator = Aggregator(WeightedMean(1), ServerMomentum(lr=1.0, momentum=0.5))
        aggregator.add_all([vector(1)], weights=[1])
        after = aggregator.finish(parameters, state)
        parameters, state = after.parameters, after.state
    assert parameters.tolist() == [1 + 1.5]


def test_a_round_in_which_every_update_was_refused_makes_no_version() -> None:
    aggregator = Aggregator(WeightedMean(1), ServerSGD())
    with pytest.raises(UpdateNotFinite):
        aggregator.add_all([vector(np.nan)], weights=[1])
    with pytest.raises(NothingToAggregate):
        aggregator.finish(np.zeros(1, dtype=np.float32), OptimizerState.initial())


def test_updates_are_asked_for_again_only_when_their_weights_are_others() -> None:
    """Reading every body twice is the price of a cap that bites, and of nothing else."""
    asked = []

    def again() -> Iterator[Vector]:
        asked.append(True)
        yield from (vector(1), vector(4))

    aggregator = Aggregator(WeightedMean(1), ServerSGD())
    aggregator.add_all([vector(1), vector(4)], weights=[2.0, 2.0])
    aggregator.weigh([2.0, 2.0], again)
    assert not asked
    aggregator.weigh([2.0, 1.0], again)
    assert asked
    assert aggregator.finish(vector(0), OptimizerState.initial()).parameters.tolist() == [2.0]


def test_a_rule_that_starts_from_the_last_result_finds_it_beside_the_optimiser_s_state(tmp_path: Path) -> None:
    """One radius a round is all that it moves: the second round starts where the first one ended."""
    parameters, state, results = vector(0), OptimizerState.initial(), []
    for _ in range(3):
        rule = new_rule("centered_clipping", clip_radius=1.0, clip_iterations=1)
        fold = RobustFold(rule, 1, folder=tmp_path)
        aggregator = Aggregator(fold, ServerMomentum(lr=1.0, momentum=0.5), keeps_center=True)
        aggregator.add_all([vector(value) for value in (10, 11, 12)], weights=[1, 1, 1])
        after = aggregator.finish(parameters, state)
        parameters, state = after.parameters, after.state
        results.append(float(after.outcome.mean[0]))
        assert sorted(state.vectors) == ["aggregation.center", "m"]
        assert state.vectors["aggregation.center"].tolist() == [results[-1]]
    assert results == [1.0, 2.0, 3.0]
