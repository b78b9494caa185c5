"""One update's way: accepted once, durable before the answer, and a refusal that leaves nothing but its line."""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_compute.coordinator.pipeline import Accepted
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.errors import (
    LeaseExpired,
    Refused,
    RoundOver,
    SampleCountInvalid,
    UpdateAllZero,
    UpdateConflict,
    UpdateCopied,
    UpdateIsModel,
    UpdateMalformed,
    UpdateNormTooLarge,
    UpdateNotFinite,
    UpdateRefused,
)
from fed_compute.ids import Digest, JobId, RoundId
from fed_compute.rounds.records import RoundState, TaskKind, TaskState, UpdateState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, body_of, digest_of, tiny_job

DELTA = {"output.weight": [[0.1, 0.1]], "output.bias": [0.1]}
OTHER = {"output.weight": [[0.2, 0.2]], "output.bias": [0.2]}
Send = Callable[[Stand, Assignment, bool], Accepted]


def binary(stand: Stand, assignment: Assignment, other: bool = False) -> Accepted:
    """Send one of two updates as safetensors."""
    return stand.send("anna", assignment, body_for(assignment, 0.2 if other else 0.1))


def as_json(stand: Stand, assignment: Assignment, other: bool = False) -> Accepted:
    """Send one of two updates as the first API does."""
    return stand.send_json("anna", assignment.task.round_id, json.dumps(OTHER if other else DELTA))


both_ways = pytest.mark.parametrize("send", [binary, as_json])


def traces(stand: Stand) -> tuple[object, ...]:
    """Return everything that an update may change, but not the journal."""
    with stand.core.store.snapshot() as records:
        rounds = records.rounds.of_job(JobId(1))
        tasks = [records.tasks.of_round(round_.round_id, TaskKind.TRAIN) for round_ in rounds]
        return rounds, tasks, list(records.updates.all()), records.versions.of_job(JobId(1)), stand.blobs()


@both_ways
def test_an_accepted_update_is_a_blob_a_row_and_a_line(stand: Stand, send: Send) -> None:
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    stand.clock.advance(7)
    accepted = send(stand, assignment, False)
    assert not accepted.repeated
    assert stand.updates() == [accepted.update]
    assert accepted.update.digest in stand.blobs()
    assert accepted.update.size_bytes == stand.core.blobs.size(accepted.update.digest)
    assert accepted.update.l2_norm == pytest.approx(math.sqrt(0.03))
    assert (stand.task(assignment).state, stand.task(assignment).ended_at) == (TaskState.REPORTED, stand.clock.now())
    (entry,) = stand.journal("update_accepted")
    payload = json.loads(entry.payload)
    assert (payload["update_id"], payload["latency_seconds"]) == (accepted.update.update_id, 7)


@both_ways
def test_the_same_update_again_gets_the_first_answer(stand: Stand, send: Send) -> None:
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    first = send(stand, assignment, False)
    before, lines = traces(stand), stand.journal()
    stand.clock.advance(5)
    assert send(stand, assignment, False) == Accepted(first.update, repeated=True)
    assert (traces(stand), stand.journal()) == (before, lines)


@both_ways
def test_the_same_update_again_gets_the_first_answer_after_the_round_was_closed(stand: Stand, send: Send) -> None:
    stand.join("anna")
    assignment = stand.lease("anna")
    first = send(stand, assignment, False)
    stand.work()
    assert stand.round().state is RoundState.CLOSED
    assert send(stand, assignment, False) == Accepted(first.update, repeated=True)


@both_ways
def test_another_update_of_the_same_task_is_a_conflict_and_leaves_nothing(stand: Stand, send: Send) -> None:
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    send(stand, assignment, False)
    before, lines = traces(stand), stand.journal()
    with pytest.raises(UpdateConflict):
        send(stand, assignment, True)
    assert (traces(stand), stand.journal()) == (before, lines)


def test_two_requests_that_were_both_admitted_before_either_was_stored_make_one_update(stand: Stand) -> None:
    """A client's retry may overtake its first attempt."""
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    early = stand.core.pipeline.admit(stand.keys["anna"], assignment.task.task_id)
    first = binary(stand, assignment)
    path, same, other = stand.core.blobs.incoming("retry"), body_for(assignment, 0.1), body_for(assignment, 0.2)
    path.write_bytes(same)
    repeated = stand.core.pipeline.accept_file(early, path, digest_of(same))
    assert repeated == Accepted(first.update, repeated=True)
    path.write_bytes(other)
    with pytest.raises(UpdateConflict):
        stand.core.pipeline.accept_file(early, path, digest_of(other))
    assert stand.updates() == [first.update]


@both_ways
def test_an_update_that_comes_after_its_round_is_late_and_recorded_once(stand: Stand, send: Send) -> None:
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    stand.report("bob")
    stand.core.rounds.request_close(RoundId(1))
    stand.clock.advance(40)
    for _ in range(3):
        with pytest.raises(RoundOver):
            send(stand, assignment, False)
    assert stand.task(assignment).state is TaskState.LATE
    (entry,) = stand.journal("update_late")
    assert (entry.client_id, json.loads(entry.payload)["latency_seconds"]) == ("anna", 40)
    assert [update.client_id for update in stand.updates()] == ["bob"]


@both_ways
def test_an_update_that_comes_after_its_lease_is_late_and_recorded_once(stand: Stand, send: Send) -> None:
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    stand.clock.advance(31)
    stand.work()
    ended_at = stand.task(assignment).ended_at
    stand.clock.advance(1)
    for _ in range(2):
        with pytest.raises(LeaseExpired):
            send(stand, assignment, False)
    assert (stand.task(assignment).state, stand.task(assignment).ended_at) == (TaskState.OVERDUE, ended_at)
    assert len(stand.journal("update_late")) == 1


def test_an_update_whose_round_ends_while_its_body_arrives_is_late(stand: Stand) -> None:
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    admission = stand.core.pipeline.admit(stand.keys["anna"], assignment.task.task_id)
    stand.report("bob")
    stand.core.rounds.request_close(RoundId(1))
    path, body = stand.core.blobs.incoming("slow"), body_for(assignment)
    path.write_bytes(body)
    with pytest.raises(RoundOver):
        stand.core.pipeline.accept_file(admission, path, digest_of(body))
    assert stand.task(assignment).state is TaskState.LATE
    assert len(stand.journal("update_late")) == 1


def test_what_is_late_may_be_repeated_when_the_client_has_a_new_lease(stand: Stand) -> None:
    stand.join("anna", "bob")
    old = stand.lease("anna")
    stand.clock.advance(31)
    stand.work()
    with pytest.raises(LeaseExpired):
        binary(stand, old)
    assert not binary(stand, stand.lease("anna")).repeated


BAD_BODIES: dict[str, tuple[Callable[[Assignment], bytes], type[UpdateRefused]]] = {
    "no container": (lambda a: b"not an update", UpdateMalformed),
    "cut short": (lambda a: body_for(a)[:-1], UpdateMalformed),
    "nan": (lambda a: body_of(a, [0, math.nan, 0]), UpdateNotFinite),
    "infinite": (lambda a: body_of(a, [0, 0, math.inf]), UpdateNotFinite),
    "too long": (lambda a: body_of(a, [99, 0, 0]), UpdateNormTooLarge),
    "wrong size": (lambda a: body_of(a, [1, 0]), UpdateMalformed),
    "all zero": (lambda a: body_of(a, [0, 0, -0.0]), UpdateAllZero),
    "too many samples": (lambda a: body_of(a, [1, 0, 0], samples=5_001), SampleCountInvalid),
}


@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_refused_body_leaves_nothing_but_its_line(open_stand: OpenStand, case: str) -> None:
    make, refusal = BAD_BODIES[case]
    stand = open_stand(max_num_samples=5_000)
    stand.create()
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    before, lines = traces(stand), stand.journal()
    with pytest.raises(refusal):
        stand.send("anna", assignment, make(assignment))
    assert traces(stand) == before
    (line,) = stand.journal()[len(lines) :]
    assert (line.kind, line.client_id, json.loads(line.payload)) == ("update_refused", "anna", {"code": refusal.code})


@pytest.mark.parametrize(
    "delta",
    ["{", "[[0, 0], [0]]", '{"output.weight": [[1, 2]]}', [[1, 2], [None]], [[0.1, 0.1], [1e300]], "[[NaN, 0], [0]]"],
)
def test_a_refused_json_update_leaves_nothing_but_its_line(stand: Stand, delta: Any) -> None:
    stand.join("anna", "bob")
    stand.lease("anna")
    before, lines = traces(stand), stand.journal()
    with pytest.raises(UpdateRefused):
        stand.send_json("anna", 1, delta)
    assert traces(stand) == before
    assert [entry.kind for entry in stand.journal()[len(lines) :]] == ["update_refused"]


COPIES: dict[str, Send] = {
    "the same file": lambda stand, mine, _: stand.send("bob", mine, body_of(mine, [0.1, 0.2, 0.3])),
    "another file": lambda stand, mine, _: stand.send("bob", mine, body_of(mine, [0.1, 0.2, 0.3], samples=11)),
    "JSON": lambda stand, mine, _: stand.send_json("bob", mine.task.round_id, [[0.1, 0.2], [0.3]]),
}


@pytest.mark.parametrize("form", COPIES)
def test_a_copy_of_another_clients_update_is_refused_and_leaves_nothing_but_its_line(stand: Stand, form: str) -> None:
    """Values are compared, not files: a copy may claim other numbers of samples, or come in another form."""
    stand.join("anna", "bob", "carl")
    theirs, mine = stand.lease("anna"), stand.lease("bob")
    stand.send("anna", theirs, body_of(theirs, [0.1, 0.2, 0.3]))
    before, lines = traces(stand), stand.journal()
    with pytest.raises(UpdateCopied):
        COPIES[form](stand, mine, False)
    assert traces(stand) == before
    (line,) = stand.journal()[len(lines) :]
    assert (line.kind, line.client_id) == ("update_refused", "bob")


def test_of_two_copies_that_come_at_once_one_is_taken(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both were compared with the others before either was stored."""
    stand.join("anna", "bob", "carl")
    theirs, mine = stand.lease("anna"), stand.lease("bob")
    body = body_of(mine, [0.1, 0.2, 0.3])
    put_file = stand.core.blobs.put_file

    def overtaken(path: Path, digest: Digest) -> None:
        monkeypatch.undo()
        stand.send("anna", theirs, body)
        put_file(path, digest)

    monkeypatch.setattr(stand.core.blobs, "put_file", overtaken)
    with pytest.raises(UpdateCopied):
        stand.send("bob", mine, body)
    assert [update.client_id for update in stand.updates()] == ["anna"]
    assert [entry.client_id for entry in stand.journal("update_refused")] == ["bob"]


def test_nearly_equal_updates_and_equal_ones_of_different_rounds_are_all_taken(stand: Stand) -> None:
    stand.join("anna", "bob", "carl")
    for values in ([0.1, 0.2, 0.3], [0.3, 0.2, 0.1]), ([0.3, 0.2, 0.1], [0.1, 0.2, float(np.float32(0.3)) + 3e-8]):
        for name, delta in zip(("anna", "bob"), values, strict=True):
            assignment = stand.lease(name)
            assert not stand.send(name, assignment, body_of(assignment, delta)).repeated
        stand.work()
    assert len(stand.versions()) == 3


def test_the_model_itself_is_no_update(stand: Stand) -> None:
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    with pytest.raises(UpdateIsModel, match="model v1 itself"):
        stand.send("anna", assignment, body_of(assignment, stand.model(1)))
    assert not binary(stand, assignment).repeated


def test_a_client_may_send_a_good_update_after_a_refused_one(stand: Stand) -> None:
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    with pytest.raises(UpdateRefused):
        stand.send("anna", assignment, b"")
    assert not binary(stand, assignment).repeated


@pytest.mark.parametrize(
    "delta",
    [DELTA, json.dumps(DELTA), [[[0.1, 0.1]], [0.1]], [[0.1, 0.1], [0.1]], {"weight_delta": DELTA}],
    ids=["object", "text", "list", "flat list", "wrapped"],
)
def test_every_spelling_of_a_json_update_is_the_same_update(stand: Stand, delta: Any) -> None:
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    first = as_json(stand, assignment)
    assert stand.send_json("anna", 1, delta) == Accepted(first.update, repeated=True)


def test_a_json_update_may_be_the_binary_one(stand: Stand) -> None:
    """Both are kept in one form, so a client that changes its protocol is not counted twice."""
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    first = stand.send("anna", assignment, body_of(assignment, [0.1] * 3, samples=32))
    assert as_json(stand, assignment) == Accepted(first.update, repeated=True)


@pytest.mark.parametrize(
    ("fields", "inside", "samples", "loss"),
    [
        ({}, {}, 32, None),  # one batch
        ({}, {"num_samples": 7, "final_loss": 0.25}, 7, 0.25),
        ({"num_samples": 5, "loss": 2.0}, {"num_samples": 7, "final_loss": 0.25}, 5, 2.0),
        ({"loss": 0.0}, {"final_loss": 0.25}, 32, 0.0),
    ],
)
def test_samples_and_loss_of_a_json_update_are_those_it_says(
    stand: Stand, fields: dict[str, Any], inside: dict[str, Any], samples: int, loss: float | None
) -> None:
    stand.join("anna", "bob")
    stand.lease("anna")
    update = stand.send_json("anna", 1, {"weight_delta": DELTA, **inside}, **fields).update
    assert (update.num_samples, update.loss, update.encoding, update.compression) == (samples, loss, "f32", "none")


def test_a_json_update_in_a_job_of_another_encoding_is_taken_and_counted(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"wire": {"encoding": "int8", "compression": "zstd"}}))
    stand.join("anna", "bob")
    as_json(stand, stand.lease("anna"))
    stand.report("bob", 0.3, samples=32)
    stand.work()
    moved = [after - before for before, after in zip(stand.model(1), stand.model(2), strict=True)]
    assert moved == pytest.approx([0.2] * 3, abs=1e-3)
    assert stand.breaches() == ()


def test_the_sequence_of_updates_is_that_of_their_acceptance(stand: Stand) -> None:
    stand.join("anna", "bob", "carl")
    leases = {name: stand.lease(name) for name in ("anna", "bob", "carl")}
    for name in ("carl", "anna"):
        stand.send(name, leases[name], body_for(leases[name]))
    assert [update.client_id for update in stand.updates()] == ["carl", "anna"]


def test_the_update_of_an_abandoned_round_is_answered_as_accepted_and_listed_as_late(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(min_updates=2))
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    first = binary(stand, assignment)
    stand.clock.advance(101)
    stand.work()
    again = binary(stand, assignment)
    assert (again.repeated, again.update.digest) == (True, first.update.digest)
    assert again.update.state is UpdateState.LATE


ACTS = ["lease", "send", "send other", "send json", "send rubbish", "release", "wait", "wait long", "work", "close"]


@settings(max_examples=settings().max_examples // 4)
@given(acts=st.lists(st.tuples(st.sampled_from(["anna", "bob", "carl"]), st.sampled_from(ACTS)), max_size=25))
def test_whatever_clients_do_every_acknowledged_update_is_kept(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, str]]
) -> None:
    stand = Stand(tmp_path_factory.mktemp("data"), database_url="sqlite://")
    stand.create(tiny_job(min_updates=2))
    stand.join("anna", "bob", "carl")
    leases: dict[str, Assignment] = {}
    acknowledged: dict[int, str] = {}
    for name, act in acts:
        with suppress(Refused):
            if (accepted := do(stand, name, act, leases)) is not None:
                first = acknowledged.setdefault(accepted.update.update_id, accepted.update.digest)
                assert first == accepted.update.digest
    stand.work()
    with stand.core.store.snapshot() as records:
        recorded = {int(update.update_id): str(update.digest) for update in records.updates.all()}
    assert recorded == acknowledged
    assert stand.breaches() == ()
    stand.close()


def do(stand: Stand, name: str, act: str, leases: dict[str, Assignment]) -> Accepted | None:
    """Do one act of one client, who holds on to the lease it got last."""
    held = leases.get(name)
    match act, held:
        case "lease", _:
            if isinstance(found := stand.ask(name), Assignment):
                leases[name] = found
        case "send" | "send other", Assignment():
            return stand.send(name, held, body_for(held, 0.1 if act == "send" else 0.2))
        case "send json", Assignment():
            return stand.send_json(name, held.task.round_id, DELTA)
        case "send rubbish", Assignment():
            stand.send(name, held, b"rubbish")
        case "release", Assignment():
            stand.core.tasks.release(held.task.client_id, held.task.task_id)
        case "wait" | "wait long", _:
            stand.clock.advance(20 if act == "wait" else 70)
        case "work", _:
            stand.work()
        case "close", _:
            stand.core.rounds.request_close(stand.rounds()[-1].round_id)
    return None
