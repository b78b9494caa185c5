"""Who gets which work, and what becomes of a lease."""

import pytest

from fed_compute.coordinator.task_assigner import NothingToDo
from fed_compute.errors import JobNotFound, LeaseExpired, TaskNotFound
from fed_compute.ids import ClientId, TaskId
from fed_compute.rounds.records import RoundState, Task, TaskKind, TaskState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job

ANNA = ClientId("anna")
BEAT = 30.0
"""Three missed heartbeats end a lease."""


def why_nothing(stand: Stand, name: str) -> str:
    """Ask for work that is not there; return the reason."""
    found = stand.ask(name)
    assert isinstance(found, NothingToDo), found
    return found.reason


def beat(stand: Stand, task: Task, *, progress: float = 0.5) -> Task:
    """Send a heartbeat of the client who holds a task."""
    return stand.core.tasks.heartbeat(task.client_id, task.task_id, progress=progress)


def test_an_assignment_names_the_round_its_base_and_its_job(stand: Stand) -> None:
    stand.join("anna")
    found = stand.lease("anna")
    assert (found.task.round_id, found.task.base_version, found.task.kind) == (1, 1, TaskKind.TRAIN)
    assert (found.version, found.job.name) == (stand.versions()[0], "default")
    assert found.round == stand.round(1)


def test_a_client_that_asks_again_gets_the_lease_it_holds(stand: Stand) -> None:
    stand.join("anna")
    first = stand.lease("anna")
    stand.clock.advance(5)
    again = stand.lease("anna")
    assert again.task == first.task
    assert len(stand.journal("task_assigned")) == 1


def test_a_client_holds_one_lease_over_all_jobs(stand: Stand) -> None:
    stand.create(tiny_job("other"))
    stand.join("anna")
    first = stand.lease("anna", job="default")
    assert stand.lease("anna", job="other").task == first.task


def test_no_more_leases_are_out_than_the_round_has_slots(stand: Stand) -> None:
    names = [f"client-{number}" for number in range(5)]
    stand.join(*names)
    for name in names[:4]:
        stand.lease(name)
    assert why_nothing(stand, names[4]) == "waiting"


def test_a_slot_whose_client_reported_stays_taken(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(target_updates=2, over_selection=1))
    stand.join("anna", "bob", "carl")
    stand.report("anna")
    stand.lease("bob")
    assert isinstance(stand.ask("carl"), NothingToDo)


def test_a_client_works_once_in_a_round(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.report("anna")
    assert why_nothing(stand, "anna") == "waiting"


def test_nobody_is_sent_into_a_round_that_is_being_aggregated(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.report("anna")
    stand.core.rounds.request_close(stand.round().round_id)
    assert isinstance(stand.ask("bob"), NothingToDo)


def test_nobody_is_sent_into_a_round_whose_deadline_has_passed(stand: Stand) -> None:
    """Whoever was would work in vain, and be blamed for it."""
    stand.join("anna", "bob")
    stand.lease("anna")
    stand.clock.advance(100)
    assert isinstance(stand.ask("bob"), NothingToDo)
    stand.work()
    assert stand.lease("bob").task.round_id == 2


def test_a_finished_job_has_no_work_and_says_so(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(total=1))
    stand.join("anna")
    stand.report("anna")
    stand.work()
    assert why_nothing(stand, "anna") == "job_finished"


def test_without_any_job_a_client_is_told_to_wait(open_stand: OpenStand) -> None:
    """A job may be created at any time; `job_finished` would send the client home."""
    stand = open_stand()
    stand.join("anna")
    assert why_nothing(stand, "anna") == "waiting"


def test_a_client_may_ask_for_one_job_only(stand: Stand) -> None:
    stand.create(tiny_job("other"))
    stand.join("anna", "bob")
    assert stand.lease("anna", job="other").job.name == "other"
    with pytest.raises(JobNotFound, match="nowhere"):
        stand.ask("bob", job="nowhere")


def test_the_oldest_job_that_has_work_comes_first(stand: Stand) -> None:
    stand.create(tiny_job("other"))
    names = [f"client-{number}" for number in range(5)]
    stand.join(*names)
    assert [stand.lease(name).job.name for name in names] == ["default"] * 4 + ["other"]


def test_a_client_with_heartbeats_gets_a_short_lease_and_one_without_the_whole_round(stand: Stand) -> None:
    stand.join("anna", "bob")
    assert stand.lease("anna", heartbeats=True).task.deadline == stand.clock.now() + BEAT
    assert stand.lease("bob", heartbeats=False).task.deadline == stand.round().deadline


def test_a_heartbeat_extends_the_lease_and_records_progress(stand: Stand) -> None:
    stand.join("anna")
    task = stand.lease("anna").task
    stand.clock.advance(20)
    after = beat(stand, task, progress=0.25)
    assert (after.deadline, after.progress) == (stand.clock.now() + BEAT, 0.25)


def test_no_heartbeat_extends_a_lease_beyond_the_deadline_of_its_round(stand: Stand) -> None:
    stand.join("anna")
    task = stand.lease("anna").task
    for _ in range(4):
        stand.clock.advance(24)
        stand.work()
        task = beat(stand, task)
    assert task.state is TaskState.LEASED
    assert task.deadline == stand.round().deadline


def test_a_heartbeat_never_shortens_a_lease(stand: Stand) -> None:
    stand.join("anna")
    task = stand.lease("anna", heartbeats=False).task
    after = beat(stand, task)
    assert (after.deadline, after.heartbeats) == (task.deadline, True)


def test_a_heartbeat_of_an_ended_lease_says_so_and_changes_nothing(stand: Stand) -> None:
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    stand.clock.advance(BEAT + 1)
    stand.work()
    ended = stand.task(assignment)
    assert ended.state is TaskState.EXPIRED
    assert beat(stand, ended, progress=0.9) == ended == stand.task(assignment)


def test_a_lease_whose_heartbeats_stop_runs_out_and_its_slot_is_free(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(target_updates=1, over_selection=1))
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    assert isinstance(stand.ask("bob"), NothingToDo)
    stand.clock.advance(BEAT)
    stand.work()
    assert stand.task(assignment).state is TaskState.LEASED  # to the second
    stand.clock.advance(1)
    stand.work()
    ended = stand.task(assignment)
    assert (ended.state, ended.ended_at) == (TaskState.EXPIRED, stand.clock.now())
    assert stand.lease("bob").task.round_id == 1


def test_a_client_whose_lease_ran_out_may_take_another_in_the_same_round(stand: Stand) -> None:
    stand.join("anna")
    first = stand.lease("anna")
    stand.clock.advance(BEAT + 1)
    stand.work()
    second = stand.lease("anna")
    assert (second.task.round_id, second.task.task_id != first.task.task_id) == (1, True)
    stand.send("anna", second, body_for(second))


def test_every_lease_that_ran_out_is_a_dropout_also_when_the_round_ends_with_it(stand: Stand) -> None:
    """Which of three vanished clients is looked at first must not decide who is blamed."""
    stand.join("anna", "bob", "carl")
    leases = [stand.lease(name, heartbeats=False) for name in ("anna", "bob", "carl")]
    stand.clock.advance(101)
    stand.work()
    assert stand.round().state is RoundState.ABANDONED
    assert [stand.task(lease).state for lease in leases] == [TaskState.EXPIRED] * 3
    assert sorted(str(entry.client_id) for entry in stand.journal("task_expired")) == ["anna", "bob", "carl"]


def test_a_lease_given_back_is_free_for_another_client(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(target_updates=1, over_selection=1))
    stand.join("anna", "bob")
    task = stand.lease("anna").task
    released = stand.core.tasks.release(ANNA, task.task_id)
    assert (released.state, released.ended_at) == (TaskState.RELEASED, stand.clock.now())
    assert stand.lease("bob").task.round_id == 1


def test_giving_a_lease_back_twice_is_once(stand: Stand) -> None:
    stand.join("anna")
    task = stand.lease("anna").task
    first = stand.core.tasks.release(ANNA, task.task_id)
    stand.clock.advance(1)
    assert stand.core.tasks.release(ANNA, task.task_id) == first
    assert len(stand.journal("task_released")) == 1


def test_a_lease_that_ended_in_another_way_cannot_be_given_back(stand: Stand) -> None:
    stand.join("anna", "bob")
    task = stand.lease("anna").task
    stand.clock.advance(BEAT + 1)
    stand.work()
    with pytest.raises(LeaseExpired):
        stand.core.tasks.release(ANNA, task.task_id)


def test_the_last_one_who_gives_up_closes_the_round_for_those_who_reported(stand: Stand) -> None:
    stand.join("anna", "bob")
    waiting = stand.lease("bob")
    stand.report("anna")
    stand.clock.advance(50)
    stand.core.tasks.release(ClientId("bob"), waiting.task.task_id)
    assert stand.round().state is RoundState.AGGREGATING


@pytest.mark.parametrize("who", ["bob", "nobody"])
def test_a_foreign_task_and_one_that_does_not_exist_get_the_same_answer(stand: Stand, who: str) -> None:
    stand.join("anna", "bob")
    theirs = stand.lease("anna").task.task_id if who == "bob" else TaskId("t_0")
    tasks, bob = stand.core.tasks, ClientId("bob")
    for act in (lambda: tasks.heartbeat(bob, theirs, progress=1.0), lambda: tasks.release(bob, theirs)):
        with pytest.raises(TaskNotFound) as refusal:
            act()
        assert refusal.value.message == TaskNotFound(theirs).message
    assert stand.journal("task_released") == []


def test_leases_go_on_after_the_coordinator_was_away(stand: Stand) -> None:
    """Nobody could answer their heartbeats; that is not the clients' fault."""
    stand.join("anna")
    assignment = stand.lease("anna")
    stand.clock.advance(60)
    stand.core.tasks.revive_leases()
    stand.work()
    task = stand.task(assignment)
    assert (task.state, task.deadline) == (TaskState.LEASED, stand.clock.now() + BEAT)


def test_no_lease_is_shortened_when_the_clock_was_set_back(stand: Stand) -> None:
    stand.join("anna")
    assignment = stand.lease("anna")
    stand.clock.jump(-3600)
    stand.core.tasks.revive_leases()
    assert stand.task(assignment).deadline == assignment.task.deadline


def test_no_lease_is_revived_beyond_the_deadline_of_its_round(stand: Stand) -> None:
    stand.join("anna", "bob")
    leases = [stand.lease("anna"), stand.lease("bob", heartbeats=False)]
    stand.clock.advance(90)
    stand.core.tasks.revive_leases()
    assert [stand.task(lease).deadline for lease in leases] == [stand.round().deadline] * 2
