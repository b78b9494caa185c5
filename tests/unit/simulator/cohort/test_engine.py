"""What goes in is checked before anything is trained, and what comes out is each client's own."""

from typing import Any

import numpy as np
import pytest

from fed_compute.client.datasets import Dataset
from fed_compute.errors import CohortUnsupported, DatasetInvalid, ModelMismatch
from fed_compute.protocol.updates import ROOM_BYTES
from fed_compute.simulator.cohort import CohortEngine, CohortResult, Plan, Shard
from tests.unit.simulator.cohort.jobs import DIGITS, TARGETS, job_for, shards_of, start_of

STACKED = Plan.parse("stacked:4")


def test_a_round_of_nobody_is_fine() -> None:
    job = job_for()
    with CohortEngine([DIGITS], processes=1, plan=STACKED) as engine:
        found = engine.train(start_of(job), [], job, [])
    assert found.deltas.shape == (0, len(start_of(job)))
    assert found.losses.shape == (0,)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"base": np.zeros(3, dtype=np.float32)}, "the model takes float32"),
        ({"base": np.zeros(2_290, dtype=np.float64)}, "the model takes float32"),
        ({"seeds": [1]}, "1 seeds for 2 clients"),
        ({"added": np.zeros((1, 5), dtype=np.float32)}, "wanted float32 of"),
        ({"shards": shards_of((8, 8), TARGETS)}, "cross_entropy wants one whole-number class"),
        ({"shards": shards_of((8, 8), Dataset(DIGITS.x[:, :60].copy(), DIGITS.y, "narrow"))}, "60 values"),
    ],
    ids=["short base", "double base", "seeds", "added", "labels", "inputs"],
)
def test_what_does_not_fit_together_is_refused_before_training(changes: dict[str, Any], wanted: str) -> None:
    job = job_for()
    arguments = {"base": start_of(job), "shards": shards_of((8, 8)), "recipe": job, "seeds": [1, 2]} | changes
    with CohortEngine([DIGITS], processes=1, plan=STACKED) as engine, pytest.raises(ModelMismatch, match=wanted):
        engine.train(**arguments)


def test_data_that_fits_one_job_is_checked_again_for_the_next() -> None:
    with CohortEngine([DIGITS], processes=1, plan=STACKED) as engine:
        engine.train(start_of(job_for()), shards_of((8,)), job_for(), [1])
        squared = job_for(loss="mse")
        with pytest.raises(ModelMismatch, match="mse wants one label for each"):
            engine.train(start_of(squared), shards_of((8,)), squared, [1])


def test_a_client_without_samples_is_named() -> None:
    job = job_for()
    with (
        CohortEngine([DIGITS], processes=1, plan=STACKED) as engine,
        pytest.raises(DatasetInvalid, match="client 1 of 3"),
    ):
        engine.train(start_of(job), shards_of((8, 0, 4)), job, [1, 2, 3])


def test_parameters_that_must_not_be_written_to_are_trained_from_and_left_alone() -> None:
    """A model that was read from a file is a view of its bytes."""
    job = job_for()
    base = np.frombuffer(start_of(job).tobytes(), dtype=np.float32)
    with CohortEngine([DIGITS], processes=1, plan=STACKED) as engine:
        found = engine.train(base, shards_of((8, 8)), job, [1, 2], added=np.broadcast_to(base, (2, len(base))))
    assert np.isfinite(found.deltas).all()
    np.testing.assert_array_equal(base, start_of(job))


@pytest.mark.parametrize("processes", [0, -1])
def test_at_least_one_process_is_wanted(processes: int) -> None:
    with pytest.raises(CohortUnsupported):
        CohortEngine(processes=processes)


def test_results_stay_as_they_are_while_later_rounds_are_trained() -> None:
    """The memory of results is used again, but never that of results somebody still holds."""
    job, shards = job_for(), shards_of((16, 9, 8))
    with CohortEngine([DIGITS], processes=1, plan=STACKED) as engine:
        first = engine.train(start_of(job), shards, job, [1, 2, 3])
        row, before = first.deltas[1], first.deltas.copy()
        del first
        for seed in range(3):
            engine.train(start_of(job), shards, job, [seed, seed + 1, seed + 2])
        np.testing.assert_array_equal(row, before[1])


def test_each_client_has_room_to_complete_its_update_where_its_values_lie() -> None:
    """What is written there changes nobody's values, and keeps the memory as long as somebody holds it."""
    job, shards = job_for(), shards_of((16, 9, 8))
    with CohortEngine([DIGITS], processes=1, plan=STACKED) as engine:
        found = engine.train(start_of(job), shards, job, [1, 2, 3])
        before, rooms = found.deltas.copy(), [found.room(client) for client in range(3)]
        del found
        for room in rooms:
            assert room is not None
            room[:ROOM_BYTES] = bytes(ROOM_BYTES)
        engine.train(start_of(job), shards, job, [4, 5, 6])
        after = [np.frombuffer(room, dtype=np.float32, offset=ROOM_BYTES) for room in rooms if room is not None]
    np.testing.assert_array_equal(np.stack(after), before)


def test_results_of_another_engine_need_no_room() -> None:
    assert CohortResult(np.zeros((1, 5), dtype=np.float32), np.zeros(1)).room(0) is None


@pytest.mark.parametrize("plan", ["stacked:2", "looped"])
def test_the_same_call_gives_the_same_bytes(plan: str) -> None:
    job, shards, seeds = job_for(momentum=0.9), shards_of((20, 3, 8, 16)), [5, 6, 7, 8]
    found = []
    for datasets in ([DIGITS], [DIGITS, TARGETS]):
        with CohortEngine(datasets, processes=1, plan=Plan.parse(plan)) as engine:
            found += [engine.train(start_of(job), shards, job, seeds) for _ in range(2)]
    assert len({one.deltas.tobytes() for one in found}) == 1
    assert len({one.losses.tobytes() for one in found}) == 1


def test_the_threads_of_the_process_are_as_before() -> None:
    import torch

    job, before = job_for(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with CohortEngine([DIGITS], processes=1, plan=STACKED) as engine:
            engine.train(start_of(job), shards_of((8, 8)), job, [1, 2])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_shard_is_rows_of_a_data_set() -> None:
    shard = Shard(DIGITS, np.array([3, 1, 3]))
    assert len(shard) == 3
    np.testing.assert_array_equal(shard.samples().x, DIGITS.x[[3, 1, 3]])
    assert len(Shard.whole(DIGITS)) == len(DIGITS)
