"""Versions measured by clients on data that was kept from training."""

import pytest

from fed_compute.coordinator.evaluations import VersionQuality
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.errors import LeaseExpired, TaskNotFound
from fed_compute.ids import ClientId, JobId, TaskId
from fed_compute.rounds.records import RoundState, TaskKind, TaskState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job

JOB = JobId(1)


@pytest.fixture
def measured(open_stand: OpenStand) -> Stand:
    """A coordinator whose first round is closed and whose second version waits to be measured by three clients."""
    return with_evaluation(open_stand)


def with_evaluation(open_stand: OpenStand, **rules: int) -> Stand:
    """Return a coordinator with rules of evaluation, its first round closed."""
    stand = open_stand()
    stand.create(tiny_job(sections={"evaluation": {"every_rounds": 1, **rules}}))
    stand.join("anna", "bob", "carl")
    close_a_round(stand)
    return stand


def close_a_round(stand: Stand) -> None:
    """Let two clients train one round to its end."""
    for name in ("anna", "bob"):
        assignment = stand.lease(name, evaluates=False)
        assert assignment.task.kind is TaskKind.TRAIN
        stand.send(name, assignment, body_for(assignment))
    stand.work()


def record(stand: Stand, name: str, task_id: TaskId, *, loss: float = 1.0, accuracy: float | None = 0.5) -> TaskState:
    """Send a measurement and return what became of its task."""
    task = stand.core.evaluations.record(ClientId(name), task_id, num_samples=10, loss=loss, accuracy=accuracy)
    return task.state


def test_a_new_version_is_measured_before_training_goes_on(measured: Stand) -> None:
    found = measured.lease("anna")
    assert (found.task.kind, found.task.base_version, found.version.version) == (TaskKind.EVALUATE, 2, 2)
    record(measured, "anna", found.task.task_id)
    assert measured.lease("anna").task.kind is TaskKind.TRAIN


def test_a_client_that_does_not_evaluate_is_given_training(measured: Stand) -> None:
    assert measured.lease("anna", evaluates=False).task.kind is TaskKind.TRAIN


def test_the_first_version_is_not_measured(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"evaluation": {"every_rounds": 1}}))
    stand.join("anna")
    assert stand.lease("anna").task.kind is TaskKind.TRAIN


def test_only_so_many_clients_measure_a_version(open_stand: OpenStand) -> None:
    stand = with_evaluation(open_stand, max_clients=2)
    kinds = [stand.lease(name).task.kind for name in ("anna", "bob", "carl")]
    assert kinds == [TaskKind.EVALUATE, TaskKind.EVALUATE, TaskKind.TRAIN]


def test_only_every_so_many_rounds_are_measured_and_the_last_one_always(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(total=3, sections={"evaluation": {"every_rounds": 2}}))
    stand.join("anna", "bob", "carl")
    kinds = []
    for _ in range(3):
        close_a_round(stand)
        asked = stand.ask("carl")
        kinds.append(asked.task.kind if isinstance(asked, Assignment) else None)
        if isinstance(asked, Assignment) and asked.task.kind is TaskKind.EVALUATE:
            record(stand, "carl", asked.task.task_id)
        elif isinstance(asked, Assignment):
            stand.core.tasks.release(asked.task.client_id, asked.task.task_id)
    assert kinds == [TaskKind.TRAIN, TaskKind.EVALUATE, TaskKind.EVALUATE]


def test_a_client_measures_a_version_once_even_if_it_dropped_out(measured: Stand) -> None:
    measured.lease("anna")
    measured.clock.advance(61)
    measured.work()
    assert measured.lease("anna").task.kind is TaskKind.TRAIN


@pytest.mark.parametrize(("heartbeat_seconds", "lease_seconds"), [(1.0, 60.0), (30.0, 90.0)])
def test_measuring_has_a_minute_at_least(open_stand: OpenStand, heartbeat_seconds: float, lease_seconds: float) -> None:
    stand = open_stand(heartbeat_seconds=heartbeat_seconds)
    stand.create(tiny_job(sections={"evaluation": {"every_rounds": 1}}))
    stand.join("anna")
    stand.report("anna")
    stand.work()
    assert stand.lease("anna").task.deadline == stand.clock.now() + lease_seconds


def test_measuring_never_moves_a_round(measured: Stand) -> None:
    before = measured.rounds()
    for name in ("anna", "bob", "carl"):
        task_id = measured.lease(name).task.task_id
        if name == "carl":
            measured.core.tasks.release(ClientId(name), task_id)
        else:
            record(measured, name, task_id)
    measured.work()
    assert measured.rounds() == before
    assert before[-1].state is RoundState.OPEN
    assert measured.breaches() == ()


def test_the_first_measurement_stands(measured: Stand) -> None:
    task_id = measured.lease("anna").task.task_id
    assert record(measured, "anna", task_id, loss=1.0) is TaskState.REPORTED
    assert record(measured, "anna", task_id, loss=9.0) is TaskState.REPORTED
    assert measured.core.evaluations.of_job(JOB)[2].loss == 1.0
    assert len(measured.journal("evaluation_recorded")) == 1


def test_quality_is_averaged_by_samples(measured: Stand) -> None:
    for name, samples, loss, accuracy in (("anna", 30, 1.0, 0.5), ("bob", 10, 2.0, None), ("carl", 10, 3.0, 0.9)):
        task_id = measured.lease(name).task.task_id
        measured.core.evaluations.record(ClientId(name), task_id, num_samples=samples, loss=loss, accuracy=accuracy)
    (quality,) = measured.core.evaluations.of_job(JOB).values()
    assert quality == VersionQuality(2, 3, 50, pytest.approx(1.6), pytest.approx(0.6))


def test_a_regression_has_a_loss_and_no_accuracy(measured: Stand) -> None:
    record(measured, "anna", measured.lease("anna").task.task_id, accuracy=None)
    assert measured.core.evaluations.of_job(JOB)[2].accuracy is None


def test_a_measurement_after_the_lease_is_refused_and_leaves_nothing(measured: Stand) -> None:
    task_id = measured.lease("anna").task.task_id
    measured.clock.advance(61)
    measured.work()
    before = measured.journal()
    with pytest.raises(LeaseExpired):
        record(measured, "anna", task_id)
    assert (measured.journal(), measured.core.evaluations.of_job(JOB)) == (before, {})


def test_a_measurement_must_belong_to_ones_own_evaluation(measured: Stand) -> None:
    theirs = measured.lease("anna").task.task_id
    training = measured.lease("bob", evaluates=False).task.task_id
    for task_id in (theirs, training, TaskId("t_0")):
        with pytest.raises(TaskNotFound):
            record(measured, "bob", task_id)
    assert measured.core.evaluations.of_job(JOB) == {}


def test_a_client_measures_and_trains_one_after_the_other(measured: Stand) -> None:
    """One live lease per client, whatever its kind."""
    evaluating = measured.lease("anna")
    assert measured.lease("anna", evaluates=False).task == evaluating.task
