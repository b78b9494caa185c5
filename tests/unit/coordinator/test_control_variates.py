"""SCAFFOLD through the whole coordinator: kept with the version, handed to who trains from it, and rebuilt."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fed_compute.coordinator.folding import control_in
from fed_compute.coordinator.recipes import schema_of
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.errors import LeaseExpired, StepCountInvalid, TaskNotFound
from fed_compute.ids import ClientId, TaskId
from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.models import decode_model
from fed_compute.rounds.records import RoundState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job
from tests.unit.coordinator.test_uneven_work import body
from tests.unit.coordinator.test_verify import run_sql

TRAINING = {"batch_size": 10, "local_epochs": 2, "lr": 0.5, "report_steps": True, "control_variates": 0.9}


def open_job(open_stand: OpenStand, *, aggregation: dict[str, Any] | None = None, **rounds: Any) -> Stand:
    """Open a coordinator with a job of rounds of two that has control variates."""
    stand = open_stand(database_url=None)
    sections = {
        "training": TRAINING,
        "aggregation": {"weighting": "equal", **(aggregation or {})},
        "privacy": {"adaptive_norm_limit": False, "max_update_norm": 1e9},
    }
    stand.create(tiny_job(sections=sections, **{"min_updates": 2, **rounds}))
    stand.join("anna", "bob", "carl")
    return stand


def play(stand: Stand, sent: dict[str, Sequence[float]]) -> None:
    """Let clients send updates of two steps, a way of 1."""
    for name, delta in sent.items():
        assignment = stand.lease(name)
        stand.send(name, assignment, body(assignment, list(delta), samples=10, steps=2))
    stand.work()


def controls(stand: Stand) -> list[list[float] | None]:
    """Return the control variate of each version."""
    job = stand.core.jobs.default()
    found = []
    for version in stand.versions():
        state = None if version.optimizer_digest is None else stand.core.models.get(version.optimizer_digest)
        control = control_in(state, job)
        found.append(None if control is None else [float(value) for value in control])
    return found


def told(stand: Stand, assignment: Assignment) -> list[float] | None:
    """Return the control variate that a client gets with a task, in which digest and file agree."""
    digest = stand.core.controls.digest(assignment)
    assert digest == stand.core.controls.digest(assignment), "also when it is asked for again"
    if digest is None:
        return None
    file = stand.core.controls.file(assignment.task.client_id, assignment.task.task_id)
    assert sha256_hex(file) == digest
    return [float(value) for value in decode_model(file, schema_of(assignment.job))]


@pytest.mark.parametrize("aggregation", [{}, {"server_optimizer": "adam"}, {"control_fraction": 0.5}])
def test_it_follows_from_the_updates_and_every_version_can_be_rebuilt_with_it(
    open_stand: OpenStand, aggregation: dict[str, Any]
) -> None:
    """c becomes c + ρ · mean(-c - Δᵢ / 1): from 0 to the mean of -Δᵢ, and from there by ρ of the rest."""
    stand, fraction = open_job(open_stand, aggregation=aggregation), aggregation.get("control_fraction", 1.0)
    play(stand, {"anna": [1.0, 0.0, 0.5], "bob": [0.0, 2.0, 0.5]})
    stand.restart()
    play(stand, {"anna": [0.5, 0.0, 0.25], "bob": [0.5, 1.0, 0.75]})
    first = -fraction * np.array([0.5, 1.0, 0.5])
    second = first + fraction * (-first - np.array([0.5, 0.5, 0.5]))
    none, after_one, after_two = controls(stand)
    assert none is None
    assert after_one == pytest.approx(list(first))
    assert after_two == pytest.approx(list(second))
    assert stand.breaches() == ()


def test_a_changed_one_is_found_by_the_checker(open_stand: OpenStand) -> None:
    stand = open_job(open_stand)
    for _ in range(2):
        play(stand, {"anna": [1.0, 0.0, 0.5], "bob": [0.0, 2.0, 0.5]})
    first = stand.versions()[1]
    assert first.optimizer_digest is not None
    state = bytearray(stand.core.blobs.get(first.optimizer_digest))
    state[-1] ^= 1
    forged = stand.core.blobs.put(bytes(state))
    run_sql(stand.core.data_dir.path, f"UPDATE versions SET optimizer_digest = '{forged}' WHERE version = 2")  # noqa: S608 (a digest)
    assert any("optimiser state of v2 rebuilds to other bytes" in breach for breach in stand.breaches())


def test_who_trains_gets_the_one_of_its_base_version_and_nobody_else(open_stand: OpenStand) -> None:
    stand = open_job(open_stand)
    first = stand.lease("anna")
    assert told(stand, first) is None, "it is still zero"
    with pytest.raises(TaskNotFound):
        stand.core.controls.file(ClientId("anna"), first.task.task_id)
    play(stand, {"anna": [1.0, 0.0, 0.5], "bob": [0.0, 2.0, 0.5]})
    second = stand.lease("anna")
    assert told(stand, second) == pytest.approx([-0.5, -1.0, -0.5])
    with pytest.raises(TaskNotFound):
        stand.core.controls.file(ClientId("bob"), second.task.task_id)
    with pytest.raises(TaskNotFound):
        stand.core.controls.file(ClientId("anna"), TaskId("t_0"))
    stand.core.tasks.release(ClientId("anna"), second.task.task_id)
    with pytest.raises(LeaseExpired):
        stand.core.controls.file(ClientId("anna"), second.task.task_id)
    assert stand.breaches() == ()


def test_a_round_that_is_given_up_leaves_it_as_it_was(open_stand: OpenStand) -> None:
    stand = open_job(open_stand)
    play(stand, {"anna": [1.0, 0.0, 0.5]})
    stand.clock.advance(1000)
    play(stand, {})
    assert [round_.state for round_ in stand.rounds()] == [RoundState.ABANDONED, RoundState.OPEN]
    assert told(stand, stand.lease("bob")) is None
    assert stand.breaches() == ()


@pytest.mark.parametrize("rule", ["fedavg", "median"])
def test_a_lying_update_carries_it_no_further_than_twice_the_median_way(open_stand: OpenStand, rule: str) -> None:
    stand = open_job(open_stand, aggregation={"rule": rule}, target_updates=3, min_updates=3)
    play(stand, {"anna": [-1.0, 0.0, 0.0], "bob": [0.0, -1.5, 0.0], "carl": [0.0, 0.0, -1e6]})
    control = controls(stand)[1]
    assert control == pytest.approx([1 / 3, 1.5 / 3, 2 * 1.5 / 3], rel=1e-5)
    assert stand.breaches() == ()


def test_an_update_must_say_its_steps(open_stand: OpenStand) -> None:
    stand = open_job(open_stand)
    assignment = stand.lease("anna")
    with pytest.raises(StepCountInvalid, match="missing"):
        stand.send("anna", assignment, body_for(assignment))
    with pytest.raises(StepCountInvalid, match="num_steps is 1"):
        stand.send("anna", assignment, body(assignment, [1.0, 1.0, 1.0], samples=10, steps=1))


def test_jobs_without_have_nothing_of_it(stand: Stand) -> None:
    stand.join("anna", "bob")
    for name in ("anna", "bob"):
        stand.report(name)
    stand.work()
    assert [version.optimizer_digest for version in stand.versions()] == [None, None]
    assignment = stand.lease("anna")
    assert told(stand, assignment) is None
    with pytest.raises(TaskNotFound):
        stand.core.controls.file(ClientId("anna"), assignment.task.task_id)
