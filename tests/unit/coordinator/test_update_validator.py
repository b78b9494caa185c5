"""The six checks of an update, in their order, each for itself."""

from collections.abc import Callable

import numpy as np
import pytest

from fed_compute.coordinator.update_validator import Admission, UpdateValidator
from fed_compute.errors import (
    AuthenticationFailed,
    ClientNotFound,
    LeaseExpired,
    NotAssigned,
    RateLimited,
    RoundNotFound,
    RoundOver,
    TaskNotFound,
    UpdateEncodingMismatch,
    UpdateMalformed,
    UpdateNormTooLarge,
    UpdateNotFinite,
    UpdateTensorMismatch,
)
from fed_compute.ids import RoundId, TaskId
from fed_compute.rounds.records import TaskState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job

Admit = Callable[[UpdateValidator, str | None, TaskId], Admission]


def by_task(validator: UpdateValidator, key: str | None, task_id: TaskId) -> Admission:
    """Ask as a binary client does."""
    return validator.admit_by_task(key, task_id)


def by_round(validator: UpdateValidator, key: str | None, task_id: TaskId) -> Admission:
    """Ask as a client of the first API does."""
    return validator.admit_by_round(key, "anna", RoundId(1))


both_ways = pytest.mark.parametrize("admit", [by_task, by_round])


def validator_of(stand: Stand, *, max_update_norm: float | None = None) -> UpdateValidator:
    """Return a validator on a stand's own components."""
    core = stand.core
    return UpdateValidator(core.store, core.auth, core.rate_limiter, max_update_norm=max_update_norm)


@both_ways
def test_a_client_with_a_live_lease_is_admitted(stand: Stand, admit: Admit) -> None:
    stand.join("anna")
    assignment = stand.lease("anna")
    admission = admit(validator_of(stand), stand.keys["anna"], assignment.task.task_id)
    assert admission == Admission(assignment.task, assignment.job)


@both_ways
@pytest.mark.parametrize("key", [None, "", "sk_0123456789_x", "Bearer"])
def test_the_first_check_is_the_key(stand: Stand, admit: Admit, key: str | None) -> None:
    with pytest.raises(AuthenticationFailed):
        admit(validator_of(stand), key, TaskId("t_0"))


def test_a_key_opens_only_its_owners_rounds(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.lease("anna")
    with pytest.raises(AuthenticationFailed):
        validator_of(stand).admit_by_round(stand.keys["bob"], "anna", RoundId(1))


def test_an_operator_is_no_client(stand: Stand) -> None:
    with pytest.raises(ClientNotFound):
        validator_of(stand).admit_by_task(stand.core.auth.issue_operator_key(), TaskId("t_0"))


def test_a_foreign_task_gets_the_answer_of_one_that_does_not_exist(stand: Stand) -> None:
    stand.join("anna", "bob")
    task_id = stand.lease("anna").task.task_id
    for asked in (task_id, TaskId("t_0")):
        with pytest.raises(TaskNotFound) as refusal:
            validator_of(stand).admit_by_task(stand.keys["bob"], asked)
        assert refusal.value.message == TaskNotFound(asked).message


def test_an_evaluation_takes_no_update(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"evaluation": {"every_rounds": 1}}))
    stand.join("anna")
    stand.report("anna")
    stand.work()
    measuring = stand.lease("anna")
    assert measuring.task.kind == "evaluate"
    with pytest.raises(TaskNotFound):
        validator_of(stand).admit_by_task(stand.keys["anna"], measuring.task.task_id)
    with pytest.raises(NotAssigned):
        validator_of(stand).admit_by_round(stand.keys["anna"], "anna", RoundId(2))


def test_a_round_must_exist_and_the_client_must_be_in_it(stand: Stand) -> None:
    stand.join("anna")
    with pytest.raises(RoundNotFound):
        validator_of(stand).admit_by_round(stand.keys["anna"], "anna", RoundId(9))
    with pytest.raises(NotAssigned):
        validator_of(stand).admit_by_round(stand.keys["anna"], "anna", RoundId(1))


@both_ways
def test_a_round_that_is_over_takes_no_more(stand: Stand, admit: Admit) -> None:
    stand.join("anna", "bob")
    slow = stand.lease("anna")
    stand.report("bob")
    stand.core.rounds.request_close(RoundId(1))
    with pytest.raises(RoundOver, match="round 1 is AGGREGATING"):
        admit(validator_of(stand), stand.keys["anna"], slow.task.task_id)


@both_ways
def test_a_lease_that_ended_takes_no_more_while_its_round_goes_on(stand: Stand, admit: Admit) -> None:
    stand.join("anna", "bob")
    slow = stand.lease("anna")
    stand.clock.advance(31)
    stand.work()
    with pytest.raises(LeaseExpired):
        admit(validator_of(stand), stand.keys["anna"], slow.task.task_id)


@both_ways
def test_a_task_that_has_reported_is_admitted_for_the_same_update_again(stand: Stand, admit: Admit) -> None:
    """A lost answer is settled by asking again, also when the round is long over."""
    stand.join("anna")
    assignment = stand.lease("anna")
    stand.send("anna", assignment, body_for(assignment))
    stand.work()
    admission = admit(validator_of(stand), stand.keys["anna"], assignment.task.task_id)
    assert admission.task.state is TaskState.REPORTED


def test_a_client_that_reports_by_round_is_held_to_its_live_lease_even_if_the_clock_was_set_back(stand: Stand) -> None:
    stand.join("anna")
    first = stand.lease("anna")
    stand.core.tasks.release(first.task.client_id, first.task.task_id)
    stand.clock.jump(-3600)
    second = stand.lease("anna")
    admission = validator_of(stand).admit_by_round(stand.keys["anna"], "anna", RoundId(1))
    assert admission.task == second.task


@both_ways
def test_a_client_over_its_limit_is_told_to_wait(open_stand: OpenStand, admit: Admit) -> None:
    stand = open_stand(updates_per_minute=2)
    stand.create()
    stand.join("anna")
    task_id, validator = stand.lease("anna").task.task_id, validator_of(stand)
    for _ in range(2):
        admit(validator, stand.keys["anna"], task_id)
    with pytest.raises(RateLimited, match="2 updates per minute") as refusal:
        admit(validator, stand.keys["anna"], task_id)
    assert 1 <= refusal.value.retry_after_seconds <= 60


def test_what_is_refused_before_the_limit_does_not_use_it_up(open_stand: OpenStand) -> None:
    stand = open_stand(updates_per_minute=1)
    stand.create()
    stand.join("anna", "bob")
    validator, key, late = validator_of(stand), stand.keys["anna"], stand.lease("anna")
    stand.clock.advance(31)
    stand.work()
    for _ in range(2):
        with pytest.raises(TaskNotFound):
            validator.admit_by_task(key, TaskId("t_0"))
        with pytest.raises(LeaseExpired):
            validator.admit_by_task(key, late.task.task_id)
    validator.admit_by_task(key, stand.lease("anna").task.task_id)


def test_a_body_is_read_as_the_recipe_says(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"wire": {"encoding": "int8", "compression": "zstd"}}))
    stand.join("anna")
    assignment = stand.lease("anna")
    decoded = validator_of(stand).decode(Admission(assignment.task, assignment.job), body_for(assignment, 0.5))
    assert decoded.delta == pytest.approx([0.5] * 3)
    assert (decoded.num_samples, decoded.loss) == (10, 0.5)


def test_a_body_for_another_recipe_or_model_is_refused(stand: Stand) -> None:
    stand.create(tiny_job("coarse", sections={"wire": {"encoding": "bf16"}}))
    stand.create(tiny_job("wide", sections={"model": {"name": "linear", "args": {"input_dim": 1, "output_dim": 3}}}))
    stand.join("anna", "bob", "carl")
    fine, coarse, wide = (
        stand.lease(name, job=job) for name, job in (("anna", "default"), ("bob", "coarse"), ("carl", "wide"))
    )
    admission, validator = Admission(fine.task, fine.job), validator_of(stand)
    with pytest.raises(UpdateEncodingMismatch):
        validator.decode(admission, body_for(coarse))
    with pytest.raises(UpdateTensorMismatch):
        validator.decode(Admission(wide.task, wide.job), body_for(fine))
    with pytest.raises(UpdateMalformed):
        validator.decode(admission, b"not an update")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_every_value_must_be_finite(stand: Stand, bad: float) -> None:
    stand.join("anna")
    assignment = stand.lease("anna")
    with pytest.raises(UpdateNotFinite, match="the first at position 1"):
        validator_of(stand).check_values(
            Admission(assignment.task, assignment.job), np.array([0, bad, bad], dtype=np.float32)
        )


@pytest.mark.parametrize(
    ("of_job", "of_operator", "limit"),
    [(None, None, 10 * 3**0.5), (None, 2.0, 2.0), (1.0, 2.0, 1.0), (3.0, 2.0, 3.0)],
)
def test_the_norm_is_limited_by_the_job_else_by_the_operator_else_by_the_size(
    open_stand: OpenStand, of_job: float | None, of_operator: float | None, limit: float
) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"privacy": {} if of_job is None else {"max_update_norm": of_job}}))
    stand.join("anna")
    assignment = stand.lease("anna")
    admission, validator = Admission(assignment.task, assignment.job), validator_of(stand, max_update_norm=of_operator)
    just_within = np.array([limit * 0.999, 0, 0], dtype=np.float32)
    assert validator.check_values(admission, just_within) == pytest.approx(limit * 0.999)
    with pytest.raises(UpdateNormTooLarge) as refusal:
        validator.check_values(admission, just_within * np.float32(1.01))
    assert refusal.value.details["limit"] == pytest.approx(limit)


def test_checking_writes_nothing(stand: Stand) -> None:
    stand.join("anna")
    assignment = stand.lease("anna")
    before, validator = stand.journal(), validator_of(stand)
    admission = validator.admit_by_round(stand.keys["anna"], "anna", RoundId(1))
    with pytest.raises(RoundNotFound):
        validator.admit_by_round(stand.keys["anna"], "anna", RoundId(9))
    validator.decode(admission, body_for(assignment))
    assert (stand.journal(), stand.task(assignment)) == (before, assignment.task)
