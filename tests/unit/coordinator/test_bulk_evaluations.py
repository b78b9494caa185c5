"""Evaluations in batches leave the same records and journal lines as if they had come one by one."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fed_compute.coordinator.evaluations import Measurement
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.errors import FedComputeError, NotNow, Refused
from fed_compute.ids import ClientId, JobId, TaskId
from fed_compute.rounds.records import TaskKind, TaskState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job

JOB = JobId(1)
NAMES = [f"c{number}" for number in range(6)]
Held = dict[str, TaskId]


def close_a_round(stand: Stand) -> None:
    for name in NAMES[:2]:
        assignment = stand.ask(name, evaluates=False)
        if isinstance(assignment, Assignment) and assignment.task.kind is TaskKind.TRAIN:
            stand.send(name, assignment, body_for(assignment))
    stand.work()


def grant(stand: Stand, names: Sequence[str], *, in_bulk: bool) -> Held:
    """Let clients ask for evaluations, in this order."""
    if in_bulk:
        ids = [ClientId(name) for name in names]
        granted = stand.core.bulk.evaluations.grant(ids, job=JOB, heartbeats=set(ids))
        return {} if granted is None else {task.client_id: task.task_id for task in granted.tasks}
    held: Held = {}
    for name in names:
        with stand.core.store.snapshot() as records:
            is_busy = records.tasks.live_of(ClientId(name)) is not None
        wanted = stand.core.bulk.evaluations.num_due(JOB) > 0 and not is_busy
        with stand.core.store.snapshot() as records:
            latest = records.versions.latest(JOB).version
            wanted = wanted and not records.tasks.evaluated_by(ClientId(name), JOB, latest)
        if wanted:  # else it would be given training
            assignment = stand.lease(name)
            assert assignment.task.kind is TaskKind.EVALUATE
            held[name] = assignment.task.task_id
    return held


def hand_in(stand: Stand, sent: Sequence[tuple[str, TaskId, float]], *, in_bulk: bool) -> list[str]:
    """Hand measurements in, and return what is answered: a state, or the code of the refusal."""
    now = stand.clock.now()
    if in_bulk:
        given = [Measurement(ClientId(name), task_id, 10, loss, 0.5, now) for name, task_id, loss in sent]
        found = stand.core.evaluations.record_all(given)
        return [one.code if isinstance(one, FedComputeError) else one.state for one in found]
    answers: list[str] = []
    for name, task_id, loss in sent:
        try:
            task = stand.core.evaluations.record(ClientId(name), task_id, num_samples=10, loss=loss, accuracy=0.5)
            answers.append(task.state)
        except (Refused, NotNow) as refusal:
            answers.append(refusal.code)
    return answers


def story(stand: Stand) -> list[Any]:
    """Return everything that is on record about evaluations, without what is drawn at random."""
    with stand.core.store.snapshot() as records:
        found = [replace(one, task_id=TaskId("")) for one in records.evaluations.of_job(JOB)]
    lines = [
        (entry.at, entry.kind, entry.round_id, entry.client_id, json.loads(entry.payload))
        for entry in stand.journal()
        if entry.kind.startswith(("task_", "evaluation_"))
    ]
    return [found, sorted(lines, key=repr)]


acts = st.lists(
    st.one_of(
        st.tuples(st.just("round"), st.just(NAMES), st.just(0.0)),
        st.tuples(st.just("ask"), st.permutations(NAMES), st.just(0.0)),
        st.tuples(st.just("hand in"), st.permutations(NAMES), st.sampled_from([0.5, 2.0])),
        st.tuples(st.just("wait"), st.just(NAMES), st.sampled_from([1.0, 40.0, 90.0])),
    ),
    max_size=10,
)


@settings(max_examples=6, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=acts, number=st.integers(0, 10**9))
def test_a_history_in_batches_is_the_same_as_one_by_one(
    open_stand: OpenStand, acts: list[tuple[str, list[str], float]], number: int
) -> None:
    stories = []
    for in_bulk in (True, False):
        stand = open_stand(f"{number}-{in_bulk}")
        try:
            stories.append(played(stand, acts, in_bulk=in_bulk))
            assert stand.breaches() == ()
        finally:
            stand.close()
    assert stories[0] == stories[1]


def played(stand: Stand, acts: list[tuple[str, list[str], float]], *, in_bulk: bool) -> list[Any]:
    stand.create(tiny_job(sections={"evaluation": {"every_rounds": 1, "max_clients": 3}}))
    stand.join(*NAMES)
    close_a_round(stand)
    held: Held = {}
    answers: list[Any] = []
    for kind, names, detail in acts:
        match kind:
            case "round":
                close_a_round(stand)
            case "ask":
                got = grant(stand, names, in_bulk=in_bulk)
                answers.append(sorted(got))
                held |= got
            case "hand in":
                sent = [(name, held[name], detail) for name in names if name in held]
                answers.append(hand_in(stand, sent, in_bulk=in_bulk))
            case "wait":
                stand.clock.advance(detail)
        stand.core.tasks.expire_leases()
    return [answers, *story(stand)]


def evaluating(open_stand: OpenStand, **rules: int) -> Stand:
    stand = open_stand()
    stand.create(tiny_job(sections={"evaluation": {"every_rounds": 1, **rules}}))
    stand.join(*NAMES)
    return stand


def test_the_newest_version_is_handed_to_so_many_clients_once_each(open_stand: OpenStand) -> None:
    stand = evaluating(open_stand, max_clients=3)
    assert stand.core.bulk.evaluations.num_due(JOB) == 0, "nobody measures the first version"
    close_a_round(stand)
    assert stand.core.bulk.evaluations.num_due(JOB) == 3
    held = grant(stand, NAMES[:2], in_bulk=True)
    assert list(held) == NAMES[:2]
    assert hand_in(stand, [(name, held[name], 1.0) for name in held], in_bulk=True) == [TaskState.REPORTED] * 2
    assert list(grant(stand, NAMES, in_bulk=True)) == NAMES[2:3]
    assert grant(stand, NAMES, in_bulk=True) == {}


def test_whoever_may_not_measure_is_passed_over_and_a_paused_job_asks_nobody(open_stand: OpenStand) -> None:
    stand = evaluating(open_stand)
    close_a_round(stand)
    stand.core.clients.ban(ClientId("c3"), reason=None, with_invited=False, by="k")
    busy = stand.lease("c4", evaluates=False)
    assert busy.task.kind is TaskKind.TRAIN
    assert list(grant(stand, ["nobody", "c3", "c4", "c5"], in_bulk=True)) == ["c5"]
    stand.core.steering.pause("default", by="k")
    assert grant(stand, NAMES, in_bulk=True) == {}


def test_one_measurement_that_cannot_be_taken_keeps_none_of_its_batch_out(open_stand: OpenStand) -> None:
    stand = evaluating(open_stand)
    close_a_round(stand)
    held = grant(stand, NAMES[:3], in_bulk=True)
    tries = [("c0", held["c1"], 1.0), ("c1", held["c1"], 1.0), ("c2", TaskId("t_none"), 1.0), ("c2", held["c2"], 2.0)]
    assert hand_in(stand, tries, in_bulk=True) == ["task_not_found", "reported", "task_not_found", "reported"]
    assert stand.core.evaluations.of_job(JOB)[2].loss == pytest.approx(1.5)
