"""The six checks of an update, in their order, each for itself."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from fed_compute.coordinator.limits import LimitBook
from fed_compute.coordinator.recipes import schema_of
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.coordinator.update_validator import Admission, UpdateValidator
from fed_compute.errors import (
    AuthenticationFailed,
    ClientNotFound,
    LeaseExpired,
    NotAssigned,
    RateLimited,
    RoundNotFound,
    RoundOver,
    SampleCountInvalid,
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
from tests.unit.coordinator.stand import Stand, body_for, body_of, tiny_job

Admit = Callable[[UpdateValidator, str | None, TaskId], Admission]


def by_task(validator: UpdateValidator, key: str | None, task_id: TaskId) -> Admission:
    """Ask as a binary client does."""
    return validator.admit_by_task(key, task_id)


def by_round(validator: UpdateValidator, key: str | None, task_id: TaskId) -> Admission:
    """Ask as a client of the first API does."""
    return validator.admit_by_round(key, "anna", RoundId(1))


both_ways = pytest.mark.parametrize("admit", [by_task, by_round])


def validator_of(
    stand: Stand, *, max_update_norm: float | None = None, max_num_samples: int | None = None
) -> UpdateValidator:
    """Return a validator on a stand's own components, with an operator's limits."""
    core = stand.core
    limits = LimitBook(core.store, core.models, max_update_norm=max_update_norm, max_num_samples=max_num_samples)
    return UpdateValidator(core.store, core.auth, core.rate_limiter, limits)


def admission_of(stand: Stand, assignment: Assignment) -> Admission:
    """Return what a client with a live lease is admitted with."""
    return Admission(assignment.task, assignment.job, stand.core.limits.of(assignment.job, assignment.round.round_id))


@both_ways
def test_a_client_with_a_live_lease_is_admitted(stand: Stand, admit: Admit) -> None:
    stand.join("anna")
    assignment = stand.lease("anna")
    admission = admit(validator_of(stand), stand.keys["anna"], assignment.task.task_id)
    assert admission == admission_of(stand, assignment)


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
    decoded = validator_of(stand).decode(admission_of(stand, assignment), body_of(assignment, [0.5] * 3, loss=0.5))
    assert decoded.delta == pytest.approx([0.5] * 3)
    assert (decoded.num_samples, decoded.loss) == (10, 0.5)


def test_a_body_for_another_recipe_or_model_is_refused(stand: Stand) -> None:
    stand.create(tiny_job("coarse", sections={"wire": {"encoding": "bf16"}}))
    stand.create(tiny_job("wide", sections={"model": {"name": "linear", "args": {"input_dim": 1, "output_dim": 3}}}))
    stand.join("anna", "bob", "carl")
    fine, coarse, wide = (
        stand.lease(name, job=job) for name, job in (("anna", "default"), ("bob", "coarse"), ("carl", "wide"))
    )
    admission, validator = admission_of(stand, fine), validator_of(stand)
    with pytest.raises(UpdateMalformed, match="3 values in f32"):
        validator.decode(admission, body_for(coarse))
    with pytest.raises(UpdateMalformed, match="6 values in f32"):
        validator.decode(admission_of(stand, wide), body_for(fine))
    digest = schema_of(fine.job).digest()
    with pytest.raises(UpdateTensorMismatch, match=f"this job's have '{digest}'"):
        validator.decode(admission, body_for(fine).replace(digest.encode(), digest[::-1].encode()))
    with pytest.raises(UpdateMalformed):
        validator.decode(admission, b"not an update")


def test_a_compressed_body_in_another_encoding_is_told_so(stand: Stand) -> None:
    wires = {"a": {"encoding": "f32", "compression": "zstd"}, "b": {"encoding": "bf16", "compression": "zstd"}}
    for name, wire in wires.items():
        stand.create(tiny_job(name, sections={"wire": wire}))
    stand.join("anna", "bob")
    fine, coarse = stand.lease("anna", job="a"), stand.lease("bob", job="b")
    with pytest.raises(UpdateEncodingMismatch):
        validator_of(stand).decode(admission_of(stand, fine), body_for(coarse))


@pytest.mark.parametrize(
    ("of_job", "of_operator", "limit"), [(None, None, 10_000_000), (None, 50, 50), (7, 50, 7), (60, 50, 60)]
)
def test_the_samples_are_limited_by_the_job_else_by_the_operator_and_a_lease_says_so(
    open_stand: OpenStand, of_job: int | None, of_operator: int | None, limit: int
) -> None:
    stand = open_stand(max_num_samples=of_operator)
    stand.create(tiny_job(sections={"privacy": {} if of_job is None else {"max_num_samples": of_job}}))
    stand.join("anna")
    assignment = stand.lease("anna")
    admission, validator = admission_of(stand, assignment), validator_of(stand)
    assert admission.limits.max_num_samples == limit
    validator.check_samples(admission, limit)
    with pytest.raises(SampleCountInvalid, match=f"from 1 to {limit}"):
        validator.check_samples(admission, limit + 1)


def test_a_json_update_that_names_no_number_of_samples_never_claims_too_many(open_stand: OpenStand) -> None:
    stand = open_stand(max_num_samples=5)
    stand.create()  # whose batches have 32 samples
    stand.join("anna", "bob")
    stand.lease("anna")
    assert stand.send_json("anna", 1, [[0.1, 0.2], [0.3]]).update.num_samples == 5
    stand.lease("bob")
    with pytest.raises(SampleCountInvalid):
        stand.send_json("bob", 1, [[0.3, 0.2], [0.1]], num_samples=6)


def test_the_norm_is_limited_by_what_recent_updates_had_and_a_new_round_tells_the_limit(stand: Stand) -> None:
    """Fifty updates of norm 1 have come: then 3 is the most, however generous the fixed limit is."""
    names = [f"client-{number}" for number in range(5)]
    stand.create(tiny_job("many", total=20, target_updates=5, min_updates=5))
    stand.create(tiny_job("fixed", total=20, target_updates=5, sections={"privacy": {"adaptive_norm_limit": False}}))
    stand.join(*names)
    for job in ("many", "fixed"):
        for number in range(10):
            for name in names:
                assignment = stand.lease(name, job=job)
                assert stand.core.limits.of(assignment.job, assignment.round.round_id).max_norm == 10 * 3**0.5, number
                angle = int(name[-1]) * 0.1
                stand.send(name, assignment, body_of(assignment, [math.cos(angle), math.sin(angle), 0]))
            stand.work()
    judged, unjudged = stand.lease(names[0], job="many"), stand.lease(names[1], job="fixed")
    with pytest.raises(UpdateNormTooLarge, match=r"limit is 3, what the updates of the last rounds leave room for"):
        stand.send(names[0], judged, body_of(judged, [3.01, 0, 0]))
    assert not stand.send(names[0], judged, body_of(judged, [2.99, 0, 0])).repeated
    assert not stand.send(names[1], unjudged, body_of(unjudged, [3.01, 0, 0])).repeated


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_every_value_must_be_finite(stand: Stand, bad: float) -> None:
    stand.join("anna")
    assignment = stand.lease("anna")
    with pytest.raises(UpdateNotFinite, match="the first at position 1"):
        validator_of(stand).check_values(admission_of(stand, assignment), np.array([0, bad, bad], dtype=np.float32))


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
    validator = validator_of(stand, max_update_norm=of_operator)
    admission = validator.admit_by_task(stand.keys["anna"], assignment.task.task_id)
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
