"""The real coordinator lives through simulated histories and crashes, and no promise is broken."""

import pytest

from tests.fault.simulated.campaign import crash_points, histories, history, scratch_folder
from tests.fault.simulated.faults import Fault
from tests.fault.simulated.story import Story

SEEDS, OPERATIONS = range(25), 400
FAILED_ONCE = (63, 163, 683, 797)
"""Seeds of 500 operations that failed before, one for each cause."""
ROUND_CALLS = 39
CALLS = [35, ROUND_CALLS, ROUND_CALLS, ROUND_CALLS]
"""The persistence calls of a first start with a job and two registrations, and of three rounds of two updates each."""


@pytest.mark.timeout(600)
def test_ten_thousand_operations_lose_nothing_and_count_nothing_twice() -> None:
    told = list(histories(SEEDS, num_operations=OPERATIONS))
    assert {one.seed: one.breaches for one in told if one.breaches} == {}
    assert sum(one.counts["operations"] for one in told) >= 10_000
    assert [name for name in told[0].counts if not any(one.counts[name] for one in told)] == [], "these never came"


@pytest.mark.timeout(600)
def test_every_persistence_call_of_three_rounds_may_be_the_last_or_fail_or_tear() -> None:
    with scratch_folder() as folder:
        story = Story(folder)
        assert list(map(len, story.traces)) == CALLS, "a persistence call came or went: look at it and count again"
        found = dict(crash_points(story))
    assert {point: breaches for point, breaches in found.items() if breaches} == {}
    for fault in (Fault.DIE_AFTER, Fault.ERROR, Fault.TORN):
        assert sum(point.fault is fault for point in found) == sum(CALLS)


@pytest.mark.timeout(600)
def test_seeds_that_failed_once_fail_no_more() -> None:
    told = histories(FAILED_ONCE, num_operations=500)
    assert {one.seed: one.breaches for one in told if one.breaches} == {}


@pytest.mark.timeout(600)
def test_one_seed_is_one_history_in_every_process() -> None:
    here = history(7, num_operations=60)
    assert here.digest
    assert [here, history(7, num_operations=60), *histories([7], num_operations=60)] == [here] * 3
    assert history(8, num_operations=60).digest != here.digest
