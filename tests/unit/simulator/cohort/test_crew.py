"""Training in several processes: the same bytes, one clear error if one dies, and nothing left behind."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from fed_compute.client.datasets import Dataset
from fed_compute.errors import WorkerLost
from fed_compute.simulator.cohort import CohortEngine, CohortResult, Plan, Shard
from tests.unit.simulator.cohort.jobs import CNN, DIGITS, MLP, TARGETS, job_for, shards_of, start_of

SIZES = (20, 3, 8, 1, 17, 9, 16, 16, 16, 2, 30, 12)
SCRIPT = """
import sys, time
from tests.unit.simulator.cohort.jobs import DIGITS, job_for, shards_of, start_of
from fed_compute.simulator.cohort import CohortEngine, Plan
job = job_for(local_epochs=20)
engine = CohortEngine([DIGITS], processes=2, plan=Plan.parse("stacked:2"))
while True:
    engine.train(start_of(job), shards_of((40,) * 24), job, range(24))
    print("round", flush=True)
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[CohortEngine]:
    """An engine of two processes, started once for these tests."""
    with CohortEngine([DIGITS, TARGETS], processes=2, plan=Plan.parse("stacked:2")) as engine:
        yield engine


def workers() -> set[psutil.Process]:
    """Return the training processes that this one started."""
    return {one for one in psutil.Process().children() if any("cohort.worker" in word for word in one.cmdline())}


def alone(plan: str, *arguments: object, **more: object) -> CohortResult:
    with CohortEngine([DIGITS, TARGETS], processes=1, plan=Plan.parse(plan)) as engine:
        return engine.train(*arguments, **more)  # type: ignore[arg-type]


def assert_same_bytes(found: CohortResult, wanted: CohortResult) -> None:
    assert found.deltas.tobytes() == wanted.deltas.tobytes()
    assert found.losses.tobytes() == wanted.losses.tobytes()


def test_one_process_and_two_give_the_same_bytes(pair: CohortEngine) -> None:
    flipped = Dataset(DIGITS.x[:20], 9 - DIGITS.y[:20], "flipped")
    shards = [*shards_of(SIZES), Shard.whole(flipped)]
    seeds = list(range(len(shards)))
    for job in (job_for(momentum=0.9), job_for(loss="mse"), job_for(optimizer="adam", lr=0.01)):
        chosen = shards_of(SIZES, TARGETS) if job.training.loss == "mse" else shards
        for _ in range(2):  # the second time memory and models are used again
            found = pair.train(start_of(job), chosen, job, seeds[: len(chosen)])
            assert_same_bytes(found, alone("stacked:2", start_of(job), chosen, job, seeds[: len(chosen)]))


def test_copied_samples_of_one_round_are_not_taken_for_those_of_the_next(pair: CohortEngine) -> None:
    """They lie at the same place, and labels that are not float32 are converted by the process that trains."""
    job = job_for({"name": "linear", "args": {"input_dim": 64, "output_dim": 1}}, loss="mse", lr=0.01)
    for labels in (DIGITS.y, 9 - DIGITS.y):
        shards = shards_of(SIZES, Dataset(DIGITS.x, labels, "numbers"))
        found = pair.train(start_of(job), shards, job, range(len(SIZES)))
        assert_same_bytes(found, alone("stacked:2", start_of(job), shards, job, range(len(SIZES))))


@pytest.mark.parametrize(("model", "plan"), [(CNN, "looped"), (MLP, "sequential")], ids=["looped", "sequential"])
def test_paths_of_one_client_at_once_give_the_same_bytes_from_two_processes(model: dict[str, Any], plan: str) -> None:
    job, shards, seeds = job_for(model), shards_of(SIZES), range(len(SIZES))
    with CohortEngine([DIGITS], processes=2, plan=Plan.parse(plan)) as engine:
        found = engine.train(start_of(job), shards, job, seeds)
    assert_same_bytes(found, alone(plan, start_of(job), shards, job, seeds))


def test_what_is_added_and_a_client_that_diverges_look_the_same_from_two_processes(pair: CohortEngine) -> None:
    wild = Dataset(DIGITS.x[:16] * np.float32(1e30), DIGITS.y[:16], "wild")
    job, shards = job_for(), [*shards_of(SIZES), Shard.whole(wild)]
    added = np.full((len(shards), len(start_of(job))), 0.01, dtype=np.float32)
    found = pair.train(start_of(job), shards, job, range(len(shards)), added=added)
    assert_same_bytes(found, alone("stacked:2", start_of(job), shards, job, range(len(shards)), added=added))
    assert np.isnan(found.losses).tolist() == [False] * len(SIZES) + [True]


def test_the_first_of_a_call_are_done_before_the_last_and_another_call_may_begin_meanwhile(pair: CohortEngine) -> None:
    job, shards, seeds = job_for(), shards_of((16,) * 12), range(12)
    wanted = alone("stacked:2", start_of(job), shards, job, seeds)
    one = pair.begin(start_of(job), shards, job, seeds)
    found = one.until(3)
    np.testing.assert_array_equal(found.deltas[:3], wanted.deltas[:3])
    np.testing.assert_array_equal(found.losses[:3], wanted.losses[:3])
    other = pair.begin(start_of(job), shards[::-1], job, seeds)
    assert_same_bytes(one.finish(), wanted)
    assert_same_bytes(other.finish(), alone("stacked:2", start_of(job), shards[::-1], job, seeds))


def test_a_call_that_nobody_waits_for_any_more_does_not_reach_into_the_next(pair: CohortEngine) -> None:
    job, shards, seeds = job_for(), shards_of((16,) * 12), range(12)
    for _ in range(3):
        pair.begin(start_of(job), shards[::-1], job, seeds)
    found = pair.train(start_of(job), shards, job, seeds)
    assert_same_bytes(found, alone("stacked:2", start_of(job), shards, job, seeds))


def test_a_process_that_dies_gives_one_clear_error_and_the_next_round_goes_on(pair: CohortEngine) -> None:
    job, shards = job_for(), shards_of(SIZES)
    pair.train(start_of(job), shards, job, range(len(SIZES)))
    (worker,) = workers()
    worker.kill()
    while worker.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.001)
    with pytest.raises(WorkerLost, match=rf"process {worker.pid} was killed by signal 9.*fewer processes"):
        pair.train(start_of(job), shards, job, range(len(SIZES)))
    assert workers() == set()
    found = pair.train(start_of(job), shards, job, range(len(SIZES)))
    assert_same_bytes(found, alone("stacked:2", start_of(job), shards, job, range(len(SIZES))))
    assert len(workers()) == 1
    pair.close()
    assert workers() == set()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_neither_processes_nor_memory_stay_behind(sent: signal.Signals) -> None:
    """However the simulation is stopped, and in the middle of a round. What has no name cannot be left behind."""
    command = [sys.executable, "-c", SCRIPT]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) == 1
    shared = [one.path for one in children[0].memory_maps(grouped=False) if "fed-compute" in Path(one.path).name]
    os.killpg(process.pid, sent)
    process.communicate(timeout=30)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert shared
    assert [path for path in shared if Path(path).exists()] == []


def test_a_process_that_is_ready_in_the_midst_of_a_call_takes_part_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    job, given = job_for(), (shards_of(SIZES), range(len(SIZES)))
    monkeypatch.setattr("fed_compute.simulator.cohort.engine._WORTH_MORE_PROCESSES_SECONDS", -1.0)
    with CohortEngine([DIGITS], plan=Plan.parse("stacked:2")) as engine:
        monkeypatch.setattr(engine, "_processes", 2)
        effort = engine.begin(start_of(job), given[0], job, given[1])
        crew = engine._crew
        assert crew is not None
        select.select([worker.channel for worker in crew._workers], [], [])  # by now it is ready
        monkeypatch.setattr("fed_compute.simulator.cohort.crew.take", lambda fd: None)  # nobody here lifts a hand
        found = effort.finish()
        assert_same_bytes(found, alone("stacked:2", start_of(job), given[0], job, given[1]))


def test_more_processes_are_started_only_when_there_is_enough_to_do() -> None:
    """A short simulation shall not wait for, nor pay for, processes that load torch."""
    job, others = job_for(), workers()
    with CohortEngine([DIGITS], plan=Plan.parse("stacked:2")) as engine:
        engine.train(start_of(job), shards_of(SIZES), job, range(len(SIZES)))
        assert workers() == others
