"""An operator pauses, resumes and stops a job: what becomes of its round, its leases and whoever asks for work."""

import json

import pytest

from fed_compute.coordinator.openings import num_openings
from fed_compute.coordinator.queries import why_over
from fed_compute.coordinator.task_assigner import NothingToDo
from fed_compute.errors import JobNotFound, JobOver, RoundOver
from fed_compute.ids import ClientId
from fed_compute.rounds.records import JobState, Round, RoundState, TaskKind, TaskState, UpdateState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job

DAY = 86_400.0


def pause(stand: Stand, name: str = "default") -> None:
    stand.core.steering.pause(name, by="ops")


def resume(stand: Stand, name: str = "default") -> None:
    stand.core.steering.resume(name, by="ops")


def stop(stand: Stand, name: str = "default") -> None:
    stand.core.steering.stop(name, by="ops")


def why_nothing(stand: Stand, name: str, **wishes: object) -> str:
    found = stand.ask(name, **wishes)
    assert isinstance(found, NothingToDo), found
    return found.reason


def beat(stand: Stand, name: str, task_id: str, seconds: float) -> None:
    """Let a client send a heartbeat every ten seconds for so long, with the duties running."""
    for _ in range(int(seconds / 10)):
        stand.clock.advance(10)
        stand.core.tasks.heartbeat(ClientId(name), task_id, progress=0.0)  # type: ignore[arg-type]
        stand.work()


# --- pause ------------------------------------------------------------------------------------


def test_a_paused_job_hands_out_no_work_and_says_why(stand: Stand) -> None:
    stand.join("anna")
    pause(stand)
    assert why_nothing(stand, "anna") == "job_paused"
    resume(stand)
    assert stand.lease("anna").task.kind is TaskKind.TRAIN


def test_a_paused_job_hands_out_no_evaluation_either(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"evaluation": {"every_rounds": 1}}, target_updates=1))
    stand.join("anna")
    stand.report("anna")
    stand.work()
    pause(stand)
    assert why_nothing(stand, "anna") == "job_paused"
    resume(stand)
    assert stand.lease("anna").task.kind is TaskKind.EVALUATE


def test_a_paused_job_does_not_keep_clients_from_the_work_of_another(stand: Stand) -> None:
    stand.create(tiny_job("other"))
    stand.join("anna")
    pause(stand)
    assert stand.lease("anna").job.name == "other"


def test_nobody_who_waits_is_let_look_for_work_of_a_paused_job(stand: Stand) -> None:
    assert num_openings(stand.core.store, now=stand.clock.now()) == 4
    pause(stand)
    assert num_openings(stand.core.store, now=stand.clock.now()) == 0


def test_work_in_progress_is_taken_in_a_pause_and_acknowledged(stand: Stand) -> None:
    stand.join("anna", "bob", "carl")
    lease = stand.lease("anna")
    pause(stand)
    beat(stand, "anna", lease.task.task_id, 200)  # twice as long as the round has
    assert stand.send("anna", lease, body_for(lease)).update.round_id == 1
    assert stand.round().state is RoundState.COLLECTING


def test_a_round_outlives_a_pause_of_days_and_has_as_much_time_left_as_before(stand: Stand) -> None:
    stand.join("anna")
    stand.lease("anna", heartbeats=False)
    stand.clock.advance(60)
    pause(stand)
    assert stand.round().deadline is None
    stand.clock.advance(3 * DAY)
    stand.work()
    assert stand.round().state is RoundState.COLLECTING
    resume(stand)
    assert stand.round().deadline == stand.clock.now() + 40
    stand.clock.advance(40)
    stand.work()
    assert stand.round().state is RoundState.ABANDONED


def test_a_client_that_sends_no_heartbeats_keeps_its_lease_over_a_pause(stand: Stand) -> None:
    """It has the lease until the round's deadline, and that stands still."""
    stand.join("anna", "bob")
    lease = stand.lease("anna", heartbeats=False)
    stand.clock.advance(60)
    pause(stand)
    stand.clock.advance(DAY)
    stand.work()
    assert stand.task(lease).state is TaskState.LEASED
    resume(stand)
    stand.clock.advance(39)
    stand.work()
    assert stand.send("anna", lease, body_for(lease)).update.round_id == 1


def test_a_client_that_falls_silent_in_a_pause_loses_its_lease(stand: Stand) -> None:
    """Nothing keeps it from sending heartbeats."""
    stand.join("anna")
    lease = stand.lease("anna")
    pause(stand)
    stand.clock.advance(31)
    stand.work()
    assert stand.task(lease).state is TaskState.EXPIRED
    assert stand.round().state is RoundState.COLLECTING


def test_a_heartbeat_after_a_pause_that_began_right_before_the_deadline_finds_the_lease_alive(stand: Stand) -> None:
    stand.join("anna")
    lease = stand.lease("anna")
    beat(stand, "anna", lease.task.task_id, 90)
    stand.clock.advance(9)  # the round, and the lease with it, has a second left
    pause(stand)
    beat(stand, "anna", lease.task.task_id, 20)
    assert stand.task(lease).state is TaskState.LEASED


def test_a_round_that_gets_all_its_updates_in_a_pause_is_published_and_the_next_one_waits(stand: Stand) -> None:
    stand.join("anna", "bob", "carl")
    leases = [(name, stand.lease(name)) for name in ("anna", "bob")]
    pause(stand)
    for name, lease in leases:
        stand.send(name, lease, body_for(lease))
    stand.work()
    first, second = stand.rounds()
    assert (first.state, first.result_version) == (RoundState.CLOSED, 2)
    assert (second.state, second.left_seconds) == (RoundState.OPEN, 100)
    assert why_nothing(stand, "carl") == "job_paused"
    resume(stand)
    assert stand.lease("carl").round.round_id == second.round_id


def test_a_round_that_was_closing_when_the_job_was_paused_is_published(stand: Stand) -> None:
    stand.join("anna", "bob")
    for name in ("anna", "bob"):
        stand.report(name)
    assert stand.round().state is RoundState.AGGREGATING
    pause(stand)
    stand.work()
    assert [r.is_paused for r in stand.rounds()] == [False, True]


def test_a_paused_round_is_not_closed_because_everybody_went_home(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.report("anna")
    pause(stand)
    stand.clock.advance(DAY)
    stand.work()
    assert stand.round().state is RoundState.COLLECTING


def test_an_operator_may_close_a_paused_round_early(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.report("anna")
    pause(stand)
    stand.core.rounds.request_close(stand.round().round_id)
    stand.work()
    assert stand.round().state is RoundState.CLOSED


def test_a_round_that_waits_for_clients_begins_to_wait_anew_after_a_pause(open_stand: OpenStand) -> None:
    """Else the first that comes back would start it alone."""
    stand = open_stand()
    stand.create(tiny_job(start_fraction=1.0, start_wait_seconds=60))
    stand.join("anna")
    assert why_nothing(stand, "anna") == "gathering"
    pause(stand)
    stand.clock.advance(DAY)
    resume(stand)
    assert why_nothing(stand, "anna") == "gathering"


def test_the_last_round_of_a_job_may_finish_it_in_a_pause(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(total=1, target_updates=1))
    stand.join("anna")
    lease = stand.lease("anna")
    pause(stand)
    stand.send("anna", lease, body_for(lease))
    stand.work()
    assert stand.core.jobs.default().state is JobState.FINISHED


def test_a_pause_is_no_part_of_the_time_that_a_round_took(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.lease("anna", heartbeats=False)
    stand.clock.advance(5)
    pause(stand)
    stand.clock.advance(DAY)
    assert stand.core.async_rounds.stats(stand.round().round_id).elapsed_seconds == 5
    resume(stand)
    stand.clock.advance(2)
    assert stand.core.async_rounds.stats(stand.round().round_id).elapsed_seconds == 7


# --- pause: rounds of the other modes ---------------------------------------------------------------


def test_a_paused_async_round_closes_with_its_minimum_and_not_by_its_time(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(mode="async", target_updates=3, min_updates=2))
    stand.join("anna", "bob")
    leases = [(name, stand.lease(name, heartbeats=False)) for name in ("anna", "bob")]
    pause(stand)
    stand.send("anna", leases[0][1], body_for(leases[0][1]))
    stand.clock.advance(DAY)
    stand.work()
    assert stand.round().state is RoundState.COLLECTING
    stand.send("bob", leases[1][1], body_for(leases[1][1]))
    stand.work()
    assert stand.round().state is RoundState.CLOSED
    assert stand.breaches() == ()


def test_buffers_go_on_filling_in_a_pause_from_the_leases_that_are_out(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(mode="fedbuff", target_updates=1, over_selection="auto", concurrency=4, max_staleness=8))
    stand.join("anna", "bob", "carl")
    leases = [(name, stand.lease(name)) for name in ("anna", "bob")]
    pause(stand)
    for name, lease in leases:
        stand.send(name, lease, body_for(lease))
        stand.work()
    states = [(round_.state, round_.is_paused) for round_ in stand.rounds()]
    assert states == [(RoundState.CLOSED, False), (RoundState.CLOSED, False), (RoundState.OPEN, True)]
    assert why_nothing(stand, "carl") == "job_paused"
    resume(stand)
    assert stand.lease("carl").task.base_version == 3
    assert stand.breaches() == ()


def test_a_buffer_that_begins_in_a_pause_has_its_whole_time_after_it(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(mode="fedbuff", target_updates=2, over_selection="auto", concurrency=4, max_staleness=8))
    stand.join("anna", "bob", "carl")
    leases = {name: stand.lease(name) for name in ("anna", "bob", "carl")}
    pause(stand)
    for name, lease in leases.items():
        stand.send(name, lease, body_for(lease))
        stand.work()
    assert (stand.round(2).state, stand.round(2).deadline) == (RoundState.COLLECTING, None)
    stand.clock.advance(DAY)
    resume(stand)
    assert stand.round(2).deadline == stand.clock.now() + 100


# --- stop -------------------------------------------------------------------------------------


def test_a_stopped_job_gives_its_round_up_tells_its_clients_and_keeps_its_versions(stand: Stand) -> None:
    stand.join("anna", "bob", "carl")
    stand.report("anna")
    lease = stand.lease("bob")
    stop(stand)
    assert (stand.round().state, stand.round().reason) == (RoundState.ABANDONED, "an operator stopped the job")
    told = stand.core.tasks.heartbeat(ClientId("bob"), lease.task.task_id, progress=0.5)
    assert (told.state, why_over(stand.core.store, told).code) == (TaskState.CANCELLED, "job_stopped")
    with pytest.raises(RoundOver):
        stand.send("bob", lease, body_for(lease))
    assert [update.state for update in stand.updates()] == [UpdateState.LATE]
    assert len(stand.versions()) == 1
    assert why_nothing(stand, "carl") == "job_finished"
    stand.work()
    assert len(stand.rounds()) == 1


@pytest.mark.parametrize("is_paused", [False, True])
def test_a_job_may_be_stopped_before_anybody_came(stand: Stand, is_paused: bool) -> None:
    if is_paused:
        pause(stand)
    stop(stand)
    assert stand.core.jobs.default().state is JobState.STOPPED
    assert stand.round().state is RoundState.ABANDONED


def test_a_job_that_is_stopped_while_its_round_is_closing_makes_no_version_of_it(stand: Stand) -> None:
    stand.join("anna", "bob")
    for name in ("anna", "bob"):
        stand.report(name)
    stop(stand)
    stand.work()
    assert (stand.round().state, len(stand.versions())) == (RoundState.ABANDONED, 1)


def test_all_leases_of_a_stopped_job_with_buffers_end(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(mode="fedbuff", target_updates=1, over_selection="auto", concurrency=4, max_staleness=8))
    stand.join("anna", "bob")
    slow = stand.lease("anna")
    stand.report("bob")
    stand.work()
    stop(stand)
    assert stand.task(slow).state is TaskState.CANCELLED
    assert stand.breaches() == ()


# --- what is the same for all acts --------------------------------------------------------------------


def test_each_act_is_one_line_of_the_journal_with_who_did_it_and_repeating_it_adds_none(stand: Stand) -> None:
    for act in (pause, pause, resume, resume, pause, stop, stop):
        act(stand)
    lines = stand.journal("job_paused", "job_resumed", "job_stopped")
    assert [line.kind for line in lines] == ["job_paused", "job_resumed", "job_paused", "job_stopped"]
    assert {json.loads(line.payload)["by"] for line in lines} == {"ops"}
    assert {(line.job_id, json.loads(line.payload)["name"]) for line in lines} == {(1, "default")}


def test_a_job_that_is_over_is_not_steered_and_the_refusal_says_what_to_do(stand: Stand) -> None:
    stop(stand)
    before = stand.journal()
    for act in (pause, resume):
        with pytest.raises(JobOver, match=r"stopped and cannot be .* create a job of another name"):
            act(stand)
    assert stand.journal() == before


def test_a_job_that_nobody_knows_cannot_be_paused(stand: Stand) -> None:
    with pytest.raises(JobNotFound):
        pause(stand, "other")


def test_a_pause_outlives_the_process_and_so_do_the_leases_in_it(durable: Stand) -> None:
    durable.join("anna", "bob", "carl")
    with_heartbeats, without = durable.lease("anna"), durable.lease("bob", heartbeats=False)
    pause(durable)
    durable.clock.advance(DAY)
    durable.restart()
    durable.work()
    assert durable.core.jobs.default().state is JobState.PAUSED
    assert [durable.task(lease).state for lease in (with_heartbeats, without)] == [TaskState.LEASED] * 2
    assert why_nothing(durable, "carl") == "job_paused"
    resume(durable)
    assert durable.round().deadline == durable.clock.now() + 100


def test_a_process_that_dies_before_the_commit_has_changed_nothing(
    durable: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    durable.join("anna")
    durable.lease("anna")
    before: tuple[list[Round], int] = durable.rounds(), len(durable.journal())

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(durable.core.tasks, "extend_leases", die)  # the last thing before the commit
    with pytest.raises(KeyboardInterrupt):
        stop(durable)
    assert durable.core.jobs.default().state is JobState.RUNNING
    assert (durable.rounds(), len(durable.journal())) == before
