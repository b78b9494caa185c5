"""Rounds move forward, each once, and everything that follows happens with them."""

import json

import pytest

from fed_compute.errors import RoundNotClosed, RoundNotFound
from fed_compute.ids import RoundId
from fed_compute.rounds.records import JobState, RoundMode, RoundState, TaskState, UpdateState
from fed_compute.rounds.selection import report_fraction, slots_for
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job


def test_a_job_begins_with_an_open_round_without_a_deadline(stand: Stand) -> None:
    round_ = stand.round(1)
    assert (round_.state, round_.number, round_.base_version) == (RoundState.OPEN, 1, 1)
    assert (round_.started_at, round_.deadline) == (None, None)


def test_the_first_lease_starts_the_deadline_and_the_second_does_not_move_it(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.clock.advance(5_000)
    stand.lease("anna")
    started_at = stand.clock.now()
    stand.clock.advance(10)
    stand.lease("bob")
    assert (stand.round().state, stand.round().deadline) == (RoundState.COLLECTING, started_at + 100)
    assert [entry.kind for entry in stand.journal("round_started")] == ["round_started"]


def test_a_full_round_is_closed_with_a_new_version_and_the_next_one_is_open(stand: Stand) -> None:
    stand.join("anna", "bob", "carl")
    for name in ("anna", "bob"):
        stand.report(name)
    assert stand.round().state is RoundState.AGGREGATING
    stand.work()
    first, second = stand.rounds()
    assert (first.state, first.result_version, first.closed_at) == (RoundState.CLOSED, 2, stand.clock.now())
    assert (second.state, second.number, second.base_version) == (RoundState.OPEN, 2, 2)


def test_when_everybody_who_is_here_has_reported_nobody_waits_for_the_deadline(stand: Stand) -> None:
    stand.join("anna")
    stand.report("anna")
    assert stand.round().state is RoundState.AGGREGATING


def test_a_round_waits_for_a_client_who_is_here_but_has_not_reported(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.report("anna")
    stand.work()
    assert stand.round().state is RoundState.COLLECTING
    stand.clock.advance(46)  # bob has not been heard of for longer than a client counts as present
    stand.work()
    assert stand.round().state is RoundState.CLOSED


def test_leases_that_are_no_longer_needed_are_cancelled_when_a_round_is_full(stand: Stand) -> None:
    stand.join("anna", "bob", "carl")
    idle = stand.lease("carl")
    for name in ("anna", "bob"):
        stand.report(name)
    task = stand.task(idle)
    assert (task.state, task.ended_at) == (TaskState.CANCELLED, stand.clock.now())
    assert [entry.client_id for entry in stand.journal("task_cancelled")] == ["carl"]


def test_an_abandoned_round_lists_its_updates_as_late_and_opens_the_next(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(min_updates=2))
    stand.join("anna", "bob")
    stand.report("anna")
    stand.clock.advance(101)
    stand.work()
    first, second = stand.rounds()
    assert (first.state, first.reason) == (RoundState.ABANDONED, "1 of at least 2 updates by the deadline")
    assert [update.state for update in stand.updates()] == [UpdateState.LATE]
    assert (second.state, second.number, second.base_version) == (RoundState.OPEN, 1, 1)
    assert json.loads(stand.journal("round_abandoned")[0].payload)["late_updates"] == 1
    assert stand.breaches() == ()


def test_updates_of_an_abandoned_round_are_in_no_model(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(min_updates=2))
    stand.join("anna", "bob")
    stand.report("anna", 9.0)
    stand.clock.advance(101)
    stand.work()
    for name in ("anna", "bob"):
        stand.report(name, 0.5)
    stand.work()
    moved = [after - before for before, after in zip(stand.model(1), stand.model(2), strict=True)]
    assert moved == pytest.approx([0.5] * 3)
    assert stand.breaches() == ()


def test_a_job_is_finished_after_its_last_round_and_opens_no_other(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(total=2))
    stand.join("anna")
    for _ in range(2):
        stand.report("anna")
        stand.work()
    assert [round_.state for round_ in stand.rounds()] == [RoundState.CLOSED] * 2
    assert stand.core.jobs.default().state is JobState.FINISHED
    assert len(stand.journal("job_finished")) == 1


def test_an_abandoned_round_does_not_count_towards_the_total(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(total=1))
    stand.join("anna")
    stand.lease("anna")
    stand.clock.advance(101)
    stand.work()
    assert stand.core.jobs.default().state is JobState.RUNNING
    stand.report("anna")
    stand.work()
    assert stand.core.jobs.default().state is JobState.FINISHED


def test_an_operator_closes_a_round_early_that_has_its_minimum(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.report("anna")
    assert stand.core.rounds.request_close(RoundId(1)).state is RoundState.AGGREGATING
    stand.work()
    assert stand.round().result_version == 2


def test_a_round_that_is_over_stays_as_it_is_and_nothing_is_written_down(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.report("anna")
    stand.core.rounds.request_close(RoundId(1))
    stand.work()
    before = (stand.rounds(), stand.journal())
    assert stand.core.rounds.request_close(RoundId(1)).state is RoundState.CLOSED
    assert (stand.rounds(), stand.journal()) == before


@pytest.mark.parametrize("leased", [False, True], ids=["open", "collecting"])
def test_a_round_below_its_minimum_is_not_closed_early_and_the_refusal_leaves_nothing(
    stand: Stand, leased: bool
) -> None:
    stand.join("anna")
    if leased:
        stand.lease("anna")
    before = (stand.rounds(), stand.journal())
    with pytest.raises(RoundNotClosed, match="0 of at least 1 updates"):
        stand.core.rounds.request_close(RoundId(1))
    assert (stand.rounds(), stand.journal()) == before


def test_a_round_that_does_not_exist_is_not_closed(stand: Stand) -> None:
    with pytest.raises(RoundNotFound):
        stand.core.rounds.request_close(RoundId(7))


def test_a_round_closes_once_however_often_it_is_looked_at(stand: Stand) -> None:
    stand.join("anna")
    stand.report("anna")
    stand.work()
    stand.clock.advance(1_000)
    for _ in range(3):
        stand.core.rounds.look_at_all()
        stand.work()
    assert len(stand.journal("round_closed")) == 1
    assert [version.round_id for version in stand.versions()] == [None, 1]


def test_what_comes_after_the_deadline_but_before_anyone_looked_is_still_counted(stand: Stand) -> None:
    """The coordinator was busy at the deadline; that is not the fault of the client."""
    stand.join("anna", "bob")
    assignment = stand.lease("anna", heartbeats=False)
    stand.clock.advance(150)
    stand.send("anna", assignment, body_for(assignment))
    stand.work()
    assert stand.round().state is RoundState.CLOSED
    assert stand.versions()[-1].num_updates == 1


def test_an_async_round_closes_at_its_minimum_however_many_are_wanted(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(mode="async", min_updates=2, target_updates=5))
    stand.join("anna", "bob", "carl")
    assert stand.round().mode is RoundMode.ASYNC
    for name in ("anna", "bob"):
        assert stand.round().state is not RoundState.AGGREGATING
        stand.report(name)
    assert stand.round().state is RoundState.AGGREGATING


def test_an_async_round_closes_at_its_longest_duration_with_what_it_has(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(mode="async", min_updates=2, target_updates=5))
    stand.join("anna", "bob")
    stand.report("anna")
    stand.clock.advance(100)
    stand.work()
    assert (stand.round().state, stand.versions()[-1].num_updates) == (RoundState.CLOSED, 1)


def test_jobs_run_beside_each_other(stand: Stand) -> None:
    stand.create(tiny_job("other"))
    stand.join("anna", "bob", "carl")
    for name, job in (("anna", "other"), ("bob", "other")):
        assignment = stand.lease(name, job=job)
        stand.send(name, assignment, body_for(assignment))
    stand.work()
    assert [round_.state for round_ in stand.rounds(1)] == [RoundState.OPEN]
    assert [round_.state for round_ in stand.rounds(2)] == [RoundState.CLOSED, RoundState.OPEN]


@pytest.mark.parametrize("end", ["run out", "given back", "cancelled"])
def test_the_next_round_hands_out_as_many_leases_as_the_measured_dropout_asks_for(
    open_stand: OpenStand, end: str
) -> None:
    stand = open_stand()
    stand.create(tiny_job(target_updates=4, min_updates=1, over_selection="auto"))
    stand.join("anna", "bob", "carl", "dora")
    assert stand.round().slots == 4  # nothing is known yet
    leases = [stand.lease(name) for name in ("bob", "carl", "dora")]
    if end == "given back":
        for lease in leases:
            stand.core.tasks.release(lease.task.client_id, lease.task.task_id)
    stand.report("anna")
    if end == "cancelled":
        stand.core.rounds.request_close(RoundId(1))
    stand.clock.advance(101)
    stand.work()
    share = report_fraction(reported=1, dropped=0 if end == "cancelled" else 3)
    assert stand.rounds()[-1].slots == slots_for(4, over_selection=None, report_fraction=share)


def test_a_look_says_whether_a_round_has_moved(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.report("anna")
    assert not stand.core.rounds.look_at_all()
    stand.clock.advance(46)
    assert stand.core.rounds.look_at_all()
    assert not stand.core.rounds.look_at_all()
