"""Batches: whatever comes in one leaves the same records and journal lines as if it had come one by one."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fed_compute.coordinator.bulk import Delivery
from fed_compute.coordinator.pipeline import Accepted
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.errors import (
    ClientBanned,
    ClientNameInvalid,
    ClientNameTaken,
    ClientNotFound,
    FedComputeError,
    NotNow,
    Refused,
    TaskNotFound,
    UpdateConflict,
    UpdateCopied,
)
from fed_compute.ids import ClientId, JobId, TaskId
from fed_compute.rounds.records import RoundState, Task
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, body_of, tiny_job

NAMES = [f"c{number}" for number in range(6)]
JOB = JobId(1)
Body = str
BODIES = st.sampled_from(["good", "good", "good", "nan", "zero", "long", "copy", "torn", "greedy"])


def made(assignment: Assignment, kind: Body) -> bytes:
    """Return an update of some kind. Copies are the same whoever sends them."""
    match kind:
        case "nan":
            return body_of(assignment, [np.nan, 0.1, 0.1])
        case "zero":
            return body_of(assignment, [0.0, 0.0, 0.0])
        case "long":
            return body_of(assignment, [1e6, 0.1, 0.1])
        case "copy":
            return body_of(assignment, [0.25, 0.5, 0.125])
        case "torn":
            return body_for(assignment)[:-3]
        case "greedy":
            return body_for(assignment, samples=2_000_000)
    return body_for(assignment, 0.1)


def grant(stand: Stand, names: Sequence[str], *, in_bulk: bool) -> dict[str, Assignment]:
    """Give leases to clients, in this order."""
    if in_bulk:
        granted = stand.core.bulk.tasks.grant([ClientId(name) for name in names], job=JOB, heartbeats=set(names))
        if granted is None:
            return {}
        shared = (granted.job, granted.round, granted.version)
        return {task.client_id: Assignment(task, *shared) for task in granted.tasks}
    found = {name: stand.ask(name) for name in names if not live(stand, name)}
    return {name: one for name, one in found.items() if isinstance(one, Assignment)}


def live(stand: Stand, name: str) -> Task | None:
    with stand.core.store.snapshot() as records:
        return records.tasks.live_of(ClientId(name))


def send(stand: Stand, sent: Sequence[tuple[str, Assignment, bytes]], *, in_bulk: bool) -> list[str]:
    """Send updates, in this order, and return what is answered: `accepted`, or the code of the refusal."""
    if in_bulk:
        now = stand.clock.now()
        deliveries = [Delivery(ClientId(name), one.task.task_id, body, now) for name, one, body in sent]
        return [told(answer) for answer in stand.core.bulk.pipeline.accept(deliveries)]
    answers: list[str] = []
    for name, assignment, body in sent:
        try:
            answers.append(told(stand.send(name, assignment, body)))
        except (Refused, NotNow) as refusal:
            answers.append(told(refusal))
    return answers


def told(answer: Accepted | FedComputeError) -> str:
    if isinstance(answer, FedComputeError):
        return answer.code
    return "repeated" if answer.repeated else "accepted"


def story(stand: Stand) -> list[Any]:
    """Return everything that is on record, without what is drawn at random."""
    numbers: dict[str | None, int] = {}
    with stand.core.store.snapshot() as records:
        rounds, updates = records.rounds.of_job(JOB), list(records.updates.all())
        versions = records.versions.of_job(JOB)
    lines = [
        (entry.kind, entry.at, entry.round_id, entry.client_id, numbers.setdefault(entry.task_id, len(numbers)),
         json.loads(entry.payload))
        for entry in stand.journal()
        if entry.kind not in ("operator_key_issued",)
    ]  # fmt: skip
    return [rounds, [replace(one, task_id=TaskId("")) for one in updates], versions, in_order(lines)]


def in_order(lines: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Sort neighbouring lines of leases that ended at one moment: their order follows from random ids."""
    found: list[tuple[Any, ...]] = []
    for is_end, run in groupby(lines, key=lambda line: line[0] in ("task_expired", "task_cancelled")):
        those = list(run)
        found += sorted(those, key=lambda line: (line[1], line[3])) if is_end else those
    return found


acts = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.permutations(NAMES), st.integers(1, 6)),
        st.tuples(st.just("send"), st.permutations(NAMES), st.lists(BODIES, min_size=6, max_size=6)),
        st.tuples(st.just("wait"), st.just(NAMES), st.sampled_from([1, 20, 120])),
    ),
    max_size=8,
)


@pytest.mark.parametrize("rounds", [{"target_updates": 3, "total": 40}, {"mode": "fedbuff", "over_selection": "auto"}])
@settings(max_examples=8, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=acts, number=st.integers(0, 10**9))
def test_a_history_in_batches_is_the_same_as_one_by_one(
    open_stand: OpenStand, rounds: dict[str, Any], acts: list[tuple[str, list[str], Any]], number: int
) -> None:
    """The clock stands still within a batch; what is accepted, refused, late and journalled must not differ."""
    stories = []
    for in_bulk in (True, False):
        stand = open_stand(f"{number}-{in_bulk}")
        try:
            stories.append(played(stand, rounds, acts, in_bulk=in_bulk))
            assert stand.breaches() == ()
        finally:
            stand.close()
    assert stories[0] == stories[1]


def played(stand: Stand, rounds: dict[str, Any], acts: list[tuple[str, list[str], Any]], *, in_bulk: bool) -> list[Any]:
    stand.create(tiny_job(**rounds))
    stand.join(*NAMES)
    stand.clock.advance(100.0)
    held: dict[str, Assignment] = {}
    answers: list[Any] = []
    for kind, names, detail in acts:
        match kind:
            case "ask":
                got = grant(stand, names[:detail], in_bulk=in_bulk)
                answers.append(sorted(got))
                held |= got
            case "send":
                sent = [
                    (name, held[name], made(held[name], body))
                    for name, body in zip(names, detail, strict=True)
                    if name in held
                ]
                answers.append(send(stand, sent, in_bulk=in_bulk))
            case "wait":
                stand.clock.advance(float(detail))
        while any([stand.core.tasks.expire_leases(), stand.core.rounds.look_at_all(), stand.core.publisher.advance()]):
            pass
    return [answers, *story(stand)]


def test_clients_enrolled_together_are_registered_and_have_no_key(stand: Stand) -> None:
    before = len(stand.journal("client_registered"))
    ids = stand.core.bulk.enrolment.enrol([f"many-{number}" for number in range(50)])
    with stand.core.store.snapshot() as records:
        assert len(records.bulk.states(ids)) == 50
        assert all(records.keys.of_client(client_id) == [] for client_id in ids)
    assert len(stand.journal("client_registered")) == before + 50
    assert grant(stand, ["many-7"], in_bulk=True)


@pytest.mark.parametrize("names", [["new", "anna"], ["twin", "twin"]])
def test_a_name_that_is_taken_lets_nobody_of_its_batch_in(stand: Stand, names: list[str]) -> None:
    stand.join("anna")
    with pytest.raises(ClientNameTaken):
        stand.core.bulk.enrolment.enrol(names)
    with stand.core.store.snapshot() as records:
        assert records.clients.find(ClientId(names[0])) is None or names[0] == "anna"
        assert records.clients.count() == 1


def test_a_name_that_cannot_be_one_lets_nobody_in(stand: Stand) -> None:
    with pytest.raises(ClientNameInvalid):
        stand.core.bulk.enrolment.enrol(["fine", "not a name"])
    with stand.core.store.snapshot() as records:
        assert records.clients.count() == 0


def test_no_more_leases_go_out_than_there_are_slots_and_one_client_gets_one(stand: Stand) -> None:
    stand.join(*NAMES)
    assert list(grant(stand, NAMES, in_bulk=True)) == NAMES[:4]
    assert grant(stand, NAMES, in_bulk=True) == {}


def test_whoever_may_not_work_is_passed_over(stand: Stand) -> None:
    stand.join("anna", "bert")
    stand.core.clients.ban(ClientId("anna"), reason=None, with_invited=False, by="k")
    assert list(grant(stand, ["anna", "nobody", "bert"], in_bulk=True)) == ["bert"]


def test_an_update_of_a_stranger_a_banned_client_or_for_another_ones_task_is_refused(stand: Stand) -> None:
    stand.join("anna", "bert", "carl")
    held = grant(stand, ["anna", "bert"], in_bulk=True)
    stand.core.clients.ban(ClientId("bert"), reason=None, with_invited=False, by="k")
    now, body = stand.clock.now(), body_for(held["anna"])
    tries = [("nobody", "anna"), ("bert", "bert"), ("carl", "anna")]
    answers = stand.core.bulk.pipeline.accept(
        [Delivery(ClientId(name), held[whose].task.task_id, body, now) for name, whose in tries]
    )
    assert [type(answer) for answer in answers] == [ClientNotFound, ClientBanned, TaskNotFound]
    assert stand.updates() == []


@pytest.mark.parametrize("blob_url", [None, "process://"])
def test_an_update_that_came_alone_is_known_again_in_a_batch(open_stand: OpenStand, blob_url: str | None) -> None:
    stand = open_stand(blob_url=blob_url)
    stand.create()
    stand.join("anna")
    held = grant(stand, ["anna"], in_bulk=True)
    sent = [("anna", held["anna"], body_for(held["anna"]))]
    assert send(stand, sent, in_bulk=False) == ["accepted"]
    assert send(stand, sent, in_bulk=True) == ["repeated"]


@pytest.mark.parametrize("blob_url", [None, "process://"])
def test_a_batch_that_says_the_same_twice_is_answered_twice_and_counted_once(
    open_stand: OpenStand, blob_url: str | None
) -> None:
    stand = open_stand(blob_url=blob_url)
    stand.create()
    stand.join("anna", "bert")
    held = grant(stand, ["anna", "bert"], in_bulk=True)
    now, body, other = stand.clock.now(), body_for(held["anna"]), body_for(held["anna"], 0.2)
    task_id = held["anna"].task.task_id
    answers = stand.core.bulk.pipeline.accept(
        [Delivery(ClientId("anna"), task_id, one, now) for one in (body, body, other)]
    )
    first, again, conflict = answers
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert (first.repeated, again.repeated) == (False, True)
    assert first.update == again.update
    assert isinstance(conflict, UpdateConflict)
    assert len(stand.updates()) == 1
    assert stand.breaches() == ()


def test_copies_within_one_batch_are_found(stand: Stand) -> None:
    stand.join("anna", "bert")
    held = grant(stand, ["anna", "bert"], in_bulk=True)
    sent = [(name, held[name], made(held[name], "copy")) for name in held]
    assert send(stand, sent, in_bulk=True) == ["accepted", UpdateCopied.code]


def test_the_update_that_closes_a_round_is_its_last_whatever_else_the_batch_holds(stand: Stand) -> None:
    """The job wants 2 updates. The third and fourth of one batch are late, as they would be alone."""
    stand.join(*NAMES[:4])
    held = grant(stand, NAMES[:4], in_bulk=True)
    sent = [(name, one, body_for(one)) for name, one in held.items()]
    assert send(stand, sent, in_bulk=True) == ["accepted", "accepted", "round_over", "round_over"]
    assert stand.round().state is RoundState.AGGREGATING
    assert len(stand.journal("update_late")) == 2
