"""A small fleet of very unequal machines: it learns faster in buffered rounds, soundly, and the same way again."""

from pathlib import Path

import pytest

from fed_compute.client.trainer import set_threads
from fed_compute.simulator.fleet import Setting, Trial, run_trial
from fed_compute.simulator.fleet.contest import ASYNC, OVER_SELECTION, SYNC, SYNC_ALL, Outcome, contenders, job_with

SMALL = Setting(num_clients=16, alpha=1.0, target_accuracy=0.6)
CONTENDERS = contenders(at_work=12, buffer_size=2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    set_threads(1)


def trial(name: str, folder: Path, *, setting: Setting = SMALL) -> Trial:
    folder.mkdir()
    return run_trial(job_with(CONTENDERS[name]), setting, folder, seed=0)


def test_asynchronous_rounds_reach_the_target_in_a_third_of_the_time_of_synchronous_ones(tmp_path: Path) -> None:
    trials = {name: [trial(name, tmp_path / name)] for name in (ASYNC, SYNC)}
    outcome = Outcome(trials, SMALL.longest_seconds)
    assert all(one.reached_at is not None and one.breaches == 0 for (one,) in trials.values())
    assert outcome.is_async_everywhere_three_times_faster
    assert trials[ASYNC][0].mean_staleness > 0.5
    assert trials[SYNC][0].mean_staleness == 0


def test_the_same_seed_gives_the_same_history(tmp_path: Path) -> None:
    short = Setting(num_clients=8, longest_seconds=60.0)
    first, second = (trial(ASYNC, tmp_path / name, setting=short) for name in ("first", "second"))
    assert first == second
    assert first.updates > 0


def test_all_contenders_have_equally_many_machines_at_work() -> None:
    for at_work in (10, 12, 30, 100):
        rounds = contenders(at_work=at_work, buffer_size=2)
        assert rounds[ASYNC].concurrency == at_work
        for name in (SYNC, SYNC_ALL):
            factor = rounds[name].over_selection
            assert factor != "auto"
            assert at_work - OVER_SELECTION < factor * rounds[name].target_updates <= at_work


def outcome_of(fast: float | None, slow: float | None) -> Outcome:
    def one(reached_at: float | None) -> Trial:
        return Trial((), reached_at, updates=0, mean_staleness=0.0, late=0, vanished=0, contributors=0, breaches=0)

    return Outcome({ASYNC: [one(fast)], SYNC: [one(slow)]}, longest_seconds=900.0)


@pytest.mark.parametrize(
    ("fast", "slow", "holds"),
    [(100, 300, True), (100, 299, False), (300, None, True), (301, None, False), (None, None, False)],
)
def test_who_does_not_arrive_counts_with_the_time_that_was_given(
    fast: float | None, slow: float | None, holds: bool
) -> None:
    assert outcome_of(fast, slow).is_async_everywhere_three_times_faster is holds
