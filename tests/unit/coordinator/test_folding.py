"""Stored updates become the same bytes whenever, by whomever and in however many pieces they are folded."""

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fed_compute.coordinator.folding import (
    FoldedRound,
    RoundFold,
    read_manifest,
    write_manifest,
)
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.coordinator.weighing import in_folding_order, weights_of
from fed_compute.errors import AggregateNotFinite, BlobCorrupt, BlobMissing, InvariantBroken, NothingToAggregate
from fed_compute.ids import ClientId, UpdateId
from fed_compute.learning.aggregation.influence import ESTABLISHED_AFTER
from fed_compute.rounds.records import Update
from tests.contract.samples import task_of, update_of
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_of, tiny_job

OPTIMIZERS = ["sgd", "momentum", "adam", "yogi", "adagrad"]
VALUES = st.floats(-3, 3, width=32)
SENT = st.lists(st.tuples(st.tuples(VALUES, VALUES, VALUES), st.integers(1, 1_000)), min_size=1, max_size=6)


@pytest.fixture
def assignment(stand: Stand) -> Assignment:
    """Somebody's task, to know the job."""
    stand.join("anna")
    return stand.lease("anna")


def stored(stand: Stand, assignment: Assignment, sent: list[tuple[tuple[float, ...], int]]) -> list[Update]:
    """Store update bodies and return their records, numbered in this order."""
    updates = []
    for number, (delta, samples) in enumerate(sent, start=1):
        body = body_of(assignment, delta, samples=samples)
        update = replace(
            update_of(task_of(assignment.round, f"client-{number}")),
            update_id=UpdateId(number),
            digest=stand.core.blobs.put(body),
            num_samples=samples,
            compression="none",
        )
        updates.append(update)
    return updates


def folded(stand: Stand, assignment: Assignment, updates: list[Update]) -> bytes:
    """Return the model that some updates make of v1."""
    fold = RoundFold(assignment.job, stand.core.blobs, base_version=1)
    fold.add(updates)
    return finish(stand, fold).model


def finish(stand: Stand, fold: RoundFold, counted: Mapping[ClientId, int] | None = None) -> FoldedRound:
    """Return what a fold makes of v1, every client being new but for those of whom the job counted updates."""
    base, job = stand.core.models.get(stand.versions()[0].digest), stand.core.jobs.default()
    order = in_folding_order(job, fold.updates, counted or {})
    weights = weights_of(job, order, counted or {}, base_version=1)
    of_each = {update.update_id: weight for update, weight in zip(order, weights, strict=True)}
    return fold.finish(base, None, weights=of_each)


with_stand = settings(
    max_examples=settings().max_examples // 2, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@with_stand
@given(sent=SENT, seed=st.randoms())
def test_the_order_of_arrival_does_not_change_the_model(
    stand: Stand, assignment: Assignment, sent: list[tuple[tuple[float, ...], int]], seed: object
) -> None:
    """Clients race; the model they make must not depend on who wins."""
    shuffled = sent.copy()
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (folded(stand, assignment, stored(stand, assignment, order)) for order in (sent, shuffled))
    assert one == other


@with_stand
@given(
    sent=SENT,
    cuts=st.lists(st.integers(0, 6), max_size=3),
    established=st.sets(st.integers(1, 6)),
    waiting=st.sets(st.integers(1, 6)),
)
def test_a_fold_in_pieces_gives_the_bytes_of_a_fold_at_once(
    stand: Stand,
    assignment: Assignment,
    sent: list[tuple[tuple[float, ...], int]],
    cuts: list[int],
    established: set[int],
    waiting: set[int],
) -> None:
    """Whatever was folded ahead and whoever waited, with weights and places that stay or change in the end."""
    updates = stored(stand, assignment, sent)
    counted = {ClientId(f"client-{number}"): ESTABLISHED_AFTER for number in established}
    pieces, whole = (RoundFold(assignment.job, stand.core.blobs, base_version=1) for _ in range(2))
    for cut in sorted(cuts):
        pieces.add(updates[pieces.num_updates : cut])
        pieces.fold(leaving={ClientId(f"client-{number}") for number in waiting})
    pieces.add(updates[pieces.num_updates :])
    whole.add(updates)
    made, wanted = finish(stand, pieces, counted), finish(stand, whole, counted)
    assert (made.model, made.manifest) == (wanted.model, wanted.manifest)
    assert (pieces.updates, pieces.waiting) == (tuple(updates), ())


def test_the_model_moves_by_the_mean_weighted_by_samples(stand: Stand, assignment: Assignment) -> None:
    updates = stored(stand, assignment, [((1.0, 0.0, -1.0), 30), ((0.0, 2.0, -1.0), 10)])
    fold = RoundFold(assignment.job, stand.core.blobs, base_version=1)
    fold.add(updates)
    values = np.frombuffer(finish(stand, fold).model[-12:], dtype="<f4")
    assert values - np.array(stand.model(1)) == pytest.approx([0.75, 0.5, -1.0], abs=1e-6)
    assert (fold.num_updates, fold.num_samples, fold.last_update_id) == (2, 40, 2)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_optimisers_memory_travels_from_version_to_version(open_stand: OpenStand, name: str) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"aggregation": {"server_optimizer": name, "server_lr": 0.5}}))
    stand.join("anna")
    moves = []
    for number in (1, 2):
        stand.report("anna", 0.1)
        stand.work()
        moves.append(stand.model(number + 1)[0] - stand.model(number)[0])
    kept = [version.optimizer_digest is not None for version in stand.versions()]
    assert kept == [False, name != "sgd", name != "sgd"]
    assert (moves[0] == pytest.approx(moves[1], rel=1e-4)) == (name == "sgd")
    assert stand.breaches() == ()


def test_an_update_is_folded_in_once_and_in_its_place(stand: Stand, assignment: Assignment) -> None:
    first, second = stored(stand, assignment, [((1.0, 1.0, 1.0), 1), ((2.0, 2.0, 2.0), 1)])
    fold = RoundFold(assignment.job, stand.core.blobs, base_version=1)
    fold.add([second])
    for again in (second, first):
        with pytest.raises(InvariantBroken):
            fold.add([again])
    assert fold.num_updates == 1


def test_a_missing_body_stops_the_fold_and_those_behind_it_wait(stand: Stand, assignment: Assignment) -> None:
    values = [((float(k),) * 3, 1) for k in (1, 2, 3)]
    first, second, third = stored(stand, assignment, values)
    fold = RoundFold(assignment.job, stand.core.blobs, base_version=1)
    stand.core.blobs.remove(second.digest)
    fold.add([first])
    fold.fold()
    fold.add([second, third])
    for _ in range(2):
        with pytest.raises(BlobMissing, match=second.digest):
            fold.fold()
    assert fold.waiting == (second, third)


def test_a_body_that_is_no_update_is_never_averaged(stand: Stand, assignment: Assignment) -> None:
    (update,) = stored(stand, assignment, [((1.0, 1.0, 1.0), 1)])
    rubbish = replace(update, digest=stand.core.blobs.put(b"rubbish"))
    with pytest.raises(BlobCorrupt):
        folded(stand, assignment, [rubbish])


def test_a_round_without_updates_makes_no_model(stand: Stand, assignment: Assignment) -> None:
    with pytest.raises(NothingToAggregate):
        folded(stand, assignment, [])


def test_a_model_that_would_not_be_finite_is_not_made(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"aggregation": {"server_lr": 1e300}}))
    stand.join("anna")
    assignment = stand.lease("anna")
    with pytest.raises(AggregateNotFinite):
        folded(stand, assignment, stored(stand, assignment, [((1.0, 1.0, 1.0), 1)]))


def test_a_manifest_is_read_back_as_it_was_written(stand: Stand, assignment: Assignment) -> None:
    updates = stored(stand, assignment, [((1.0, 1.0, 1.0), 7), ((2.0, 2.0, 2.0), 9)])
    text = write_manifest(updates, [7.0, 0.1])
    assert read_manifest(text) == [(1, updates[0].digest, 7), (2, updates[1].digest, 0.1)]
    assert write_manifest(updates, [7.0, 0.1]) == text == json.dumps(json.loads(text), separators=(",", ":"))
