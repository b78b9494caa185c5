"""Soft deadlines from measured times, leases that stand still, and what an ended lease is told."""

import json

import pytest

from fed_compute.coordinator.queries import why_over
from fed_compute.coordinator.task_assigner import Assignment, NothingToDo
from fed_compute.errors import LeaseExpired, RoundOver
from fed_compute.ids import ClientId
from fed_compute.rounds.records import RoundState, Task, TaskState
from fed_compute.rounds.selection import report_fraction, slots_for
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job

SECONDS = 20.0
"""What a task took in the first rounds."""
SOFT = 30.0


def train(stand: Stand, *names: str, seconds: float = SECONDS) -> None:
    """Let clients take part in one round together, each for so many seconds."""
    leases = [stand.lease(name, heartbeats=False) for name in names]
    stand.clock.advance(seconds)
    for name, lease in zip(names, leases, strict=True):
        stand.send(name, lease, body_for(lease))
    stand.work()


@pytest.fixture
def measured(open_stand: OpenStand) -> Stand:
    """A job of two slots, of which five tasks were measured."""
    stand = open_stand(heartbeat_seconds=10.0)
    stand.create(tiny_job(target_updates=2, over_selection=1, deadline_seconds=1000, total=50))
    stand.join("anna", "bob", "carl", "dora")
    for _ in range(3):
        train(stand, "anna", "bob")
    return stand


def beat(stand: Stand, assignment: Assignment, *, progress: float) -> Task:
    return stand.core.tasks.heartbeat(assignment.task.client_id, assignment.task.task_id, progress=progress)


def code_of(stand: Stand, task: Task) -> str:
    return why_over(stand.core.store, task).code


def test_without_measured_times_the_work_is_expected_with_the_round(stand: Stand) -> None:
    stand.join("anna")
    assignment = stand.lease("anna")
    assert assignment.round.soft_seconds is None
    assert assignment.task.soft_deadline == assignment.round.deadline


def test_after_some_rounds_it_is_expected_by_what_the_job_took(measured: Stand) -> None:
    assignment = measured.lease("carl")
    assert assignment.round.soft_seconds == SOFT
    assert assignment.task.soft_deadline == measured.clock.now() + SOFT


def test_a_slow_client_is_given_what_it_needs(measured: Stand) -> None:
    for _ in range(3):
        train(measured, "carl", seconds=100)
    for _ in range(10):
        train(measured, "anna", "bob")
    slow, fast = measured.lease("carl"), measured.lease("anna")
    assert (slow.task.soft_deadline, fast.task.soft_deadline) == (
        measured.clock.now() + 150,
        measured.clock.now() + SOFT,
    )


def test_a_straggler_holds_no_slot_any_more_and_its_update_still_counts(measured: Stand) -> None:
    slow, _ = measured.lease("anna"), measured.lease("bob", heartbeats=False)
    assert isinstance(measured.ask("carl"), NothingToDo)
    for _ in range(4):
        measured.clock.advance(10)
        measured.work()
        beat(measured, slow, progress=0.1 + measured.clock.now() % 1e4 / 1e5)
    assert measured.task(slow).state is TaskState.LEASED
    fast = measured.lease("carl")
    assert fast.task.round_id == slow.task.round_id
    measured.send("carl", fast, body_for(fast))
    measured.send("anna", slow, body_for(slow))
    measured.work()
    assert measured.versions()[-1].num_updates == 2


def test_a_lease_whose_progress_stands_still_ends_however_many_heartbeats_come(measured: Stand) -> None:
    stuck = measured.lease("anna")
    task = beat(measured, stuck, progress=0.5)
    for _ in range(12):
        measured.clock.advance(10)
        measured.work()
        task = beat(measured, stuck, progress=0.5)
    assert task.state is TaskState.LEASED  # four times what the whole should take
    measured.clock.advance(10)
    ended = beat(measured, stuck, progress=0.5)
    assert (ended.state, code_of(measured, ended)) == (TaskState.EXPIRED, "no_progress")
    assert [entry.client_id for entry in measured.journal("task_expired")] == ["anna"]
    assert isinstance(measured.ask("carl"), Assignment)


def test_a_lease_that_goes_on_slowly_is_not_stuck(measured: Stand) -> None:
    slow = measured.lease("anna")
    for step in range(1, 50):
        measured.clock.advance(10)
        measured.work()
        assert beat(measured, slow, progress=step / 50).state is TaskState.LEASED


def test_progress_that_goes_to_and_fro_is_none(measured: Stand) -> None:
    stuck = measured.lease("anna")
    task = beat(measured, stuck, progress=0.5)
    for step in range(13):
        measured.clock.advance(10)
        measured.work()
        task = beat(measured, stuck, progress=0.4 if step % 2 else 0.3)
    assert (task.state, task.progress) == (TaskState.EXPIRED, 0.5)


def test_an_outage_is_no_standstill(measured: Stand) -> None:
    lease = measured.lease("anna")
    measured.clock.advance(500)
    measured.core.tasks.revive_leases()
    assert beat(measured, lease, progress=0.0).state is TaskState.LEASED


def test_useless_work_is_told_why(stand: Stand) -> None:
    stand.join("anna", "bob", "carl")
    useless = stand.lease("carl")
    for name in ("anna", "bob"):
        stand.report(name)
    task = beat(stand, useless, progress=0.9)
    assert (task.state, code_of(stand, task)) == (TaskState.CANCELLED, "round_closed")
    stand.work()
    assert code_of(stand, task) == "round_closed"


def test_a_lease_of_a_round_that_was_given_up_is_told_so(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(min_updates=2, deadline_seconds=20))
    stand.join("anna", "bob")
    first = stand.lease("anna", heartbeats=False)
    stand.clock.advance(20)
    stand.core.rounds.look_at_all()
    assert stand.round().state is RoundState.ABANDONED
    assert code_of(stand, stand.task(first)) == "lease_expired"


def test_the_last_round_of_a_job_tells_that_the_job_has_finished(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(total=1))
    stand.join("anna", "bob", "carl")
    useless = stand.lease("carl")
    for name in ("anna", "bob"):
        stand.report(name)
    stand.work()
    assert code_of(stand, beat(stand, useless, progress=0.9)) == "job_finished"


def test_a_banned_client_is_told_so(stand: Stand) -> None:
    stand.join("anna", "bob")
    lease = stand.lease("anna")
    stand.core.clients.ban(ClientId("anna"), reason=None, with_invited=False, by="ops")
    assert code_of(stand, stand.task(lease)) == "client_banned"


def test_whoever_comes_after_the_lease_ran_out_counts_as_dropped_and_late_after_a_close_does_not(
    open_stand: OpenStand,
) -> None:
    """Slots are planned by who reports in time; the round that closed early did not wait, which says nothing."""
    stand = open_stand()
    stand.create(tiny_job(target_updates=2, min_updates=1, over_selection="auto", deadline_seconds=100))
    stand.join("anna", "bob", "carl")
    overdue = stand.lease("bob")
    stand.clock.advance(31)
    stand.work()
    closed_out = stand.lease("carl")
    stand.report("anna")
    stand.core.rounds.request_close(stand.round().round_id)
    for name, lease in (("bob", overdue), ("carl", closed_out)):
        with pytest.raises((RoundOver, LeaseExpired)):
            stand.send(name, lease, body_for(lease))
    assert [stand.task(lease).state for lease in (overdue, closed_out)] == [TaskState.OVERDUE, TaskState.LATE]
    stand.work()
    share = report_fraction(reported=1, dropped=1)
    assert stand.rounds()[-1].slots == slots_for(2, over_selection=None, report_fraction=share)


def test_a_round_that_gathers_waits_for_its_share_of_clients_and_says_so(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(target_updates=4, start_fraction=0.75, start_wait_seconds=60))
    stand.join("anna", "bob")
    for name in ("anna", "bob", "anna"):
        found = stand.ask(name)
        assert isinstance(found, NothingToDo)
        assert found.reason == "gathering"
    assert (stand.round().state, len(stand.journal("round_gathering"))) == (RoundState.OPEN, 1)
    stand.join("carl")  # three of four are there
    assert isinstance(stand.ask("anna"), Assignment)


def test_a_small_fleet_is_not_kept_waiting_longer_than_the_job_says(open_stand: OpenStand) -> None:
    stand = open_stand(active_seconds=1e6)
    stand.create(tiny_job(target_updates=4, start_fraction=0.75, start_wait_seconds=60))
    stand.join("anna")
    stand.clock.advance(5_000)  # nobody has asked yet
    assert isinstance(stand.ask("anna"), NothingToDo)
    stand.clock.advance(59)
    assert isinstance(stand.ask("anna"), NothingToDo)
    stand.clock.advance(1)
    assert isinstance(stand.ask("anna"), Assignment)
    stand.join("bob")
    assert isinstance(stand.ask("bob"), Assignment), "a round that has begun waits for nobody"


def test_while_one_job_gathers_another_one_gives_work(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(start_fraction=1.0, target_updates=4))
    stand.create(tiny_job("other"))
    stand.join("anna")
    assert stand.lease("anna").job.name == "other"


def test_the_speed_bonus_looks_at_what_the_work_should_take(open_stand: OpenStand) -> None:
    """With the curve: as fast as half the measured time earns √(0.75 / 0.5) of the base."""
    stand = open_stand(incentive_speed_curve=True, incentive_consistency_threshold=99)
    stand.create(tiny_job(target_updates=2, over_selection=1, deadline_seconds=1000, total=50))
    stand.join("anna", "bob")
    for _ in range(3):
        train(stand, "anna", "bob")
    train(stand, "anna", "bob", seconds=SOFT / 2)
    lines = [line for line in stand.core.incentives.of("anna").lines if line.reason == "speed_bonus"]
    terms = json.loads(lines[-1].terms) if isinstance(lines[-1].terms, str) else lines[-1].terms
    assert terms["deadline_seconds"] == SOFT
    assert terms["factor"] == pytest.approx((0.75 / 0.5) ** 0.5)
