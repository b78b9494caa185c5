"""The counts of the system, drawn from the journal."""

import pytest

from fed_compute.coordinator.metrics import MetricsCollector
from fed_compute.errors import LeaseExpired, RoundNotFound, UpdateRefused
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job


def test_a_round_is_described_from_its_opening_to_its_end(stand: Stand) -> None:
    opened_at = stand.clock.now()
    stand.join("anna", "bob")
    stand.clock.advance(3)
    started_at = stand.clock.now()
    leases = {name: stand.lease(name) for name in ("anna", "bob")}
    for name, samples, loss, seconds in (("anna", 30, 1.0, 2), ("bob", 10, 2.0, 4)):
        stand.clock.advance(seconds)
        stand.send(name, leases[name], body_for(leases[name], samples=samples, loss=loss))
    stand.work()
    shown = stand.core.metrics.round(1).summary()
    assert (shown["state"], shown["mode"], shown["number"]) == ("CLOSED", "sync", 1)
    assert (shown["base_version"], shown["result_version"]) == ("v1", "v2")
    assert (shown["opened_at"], shown["started_at"]) == (opened_at, started_at)
    assert (shown["closed_at"], shown["duration_seconds"]) == (stand.clock.now(), 6)
    assert (shown["clients"], shown["tasks_assigned"], shown["updates_accepted"]) == (["anna", "bob"], 2, 2)
    assert (shown["num_samples"], shown["mean_latency_seconds"]) == (40, 4)  # after 2 and after 6 seconds
    assert shown["train_loss"] == pytest.approx(1.25)
    assert shown["bytes_received"] == sum(update.size_bytes for update in stand.updates())


def test_a_round_that_only_began_has_no_means(stand: Stand) -> None:
    shown = stand.core.metrics.round(1).summary()
    assert shown["state"] == "OPEN"
    for name in ("duration_seconds", "mean_latency_seconds", "train_loss", "evaluation_loss", "accuracy"):
        assert shown[name] is None


@pytest.mark.parametrize("state", ["COLLECTING", "AGGREGATING"])
def test_a_round_in_progress_shows_its_state(stand: Stand, state: str) -> None:
    stand.join("anna", "bob")
    stand.lease("anna")
    if state == "AGGREGATING":
        for name in ("anna", "bob"):
            stand.report(name)
    assert stand.core.metrics.round(1).state == state


def test_an_update_without_a_loss_does_not_weigh_in_the_mean(stand: Stand) -> None:
    stand.join("anna", "bob")
    for name, loss in (("anna", None), ("bob", 3.0)):
        assignment = stand.lease(name)
        stand.send(name, assignment, body_for(assignment, loss=loss))
    assert stand.core.metrics.round(1).summary()["train_loss"] == 3.0


def test_every_end_of_a_lease_is_counted_as_what_it_was(stand: Stand) -> None:
    stand.join("anna", "bob", "carl", "dora")
    expired, released = stand.lease("anna"), stand.lease("bob")
    stand.core.tasks.release(released.task.client_id, released.task.task_id)
    stand.clock.advance(31)
    stand.work()
    with pytest.raises(LeaseExpired):
        stand.send("anna", expired, body_for(expired))
    stand.lease("anna")
    for name in ("carl", "dora"):
        stand.report(name)
    metrics = stand.core.metrics.round(1)
    ends = (metrics.tasks_expired, metrics.tasks_released, metrics.tasks_cancelled, metrics.updates_late)
    assert (metrics.tasks_assigned, ends) == (5, (1, 1, 1, 1))
    assert metrics.clients == ["anna", "bob", "carl", "dora"]  # each once, however many leases it had


def test_refusals_are_counted_by_their_code(stand: Stand) -> None:
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    for body in (b"x", b"y", body_for(assignment, 99.0)):
        with pytest.raises(UpdateRefused):
            stand.send("anna", assignment, body)
    metrics = stand.core.metrics.round(1)
    assert (metrics.updates_refused, metrics.updates_accepted) == (3, 0)
    assert metrics.refusals == {"update_malformed": 2, "update_norm_too_large": 1}
    totals = stand.core.metrics.totals()
    assert totals["refused:update_malformed"] == 2
    assert totals["update_refused"] == 3


def test_an_abandoned_round_shows_why(stand: Stand) -> None:
    stand.join("anna")
    stand.lease("anna")
    stand.clock.advance(101)
    stand.work()
    first, second = stand.core.metrics.rounds()
    assert (first.state, second.state) == ("ABANDONED", "OPEN")
    assert first.reason == "0 of at least 1 updates by the deadline"
    assert first.summary()["duration_seconds"] == 101


def test_evaluations_are_averaged_by_samples_and_never_counted_as_training(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"evaluation": {"every_rounds": 1}}))
    stand.join("anna", "bob", "carl")
    for name in ("anna", "bob"):
        stand.report(name)
    stand.work()
    for name, samples, loss, accuracy in (("anna", 30, 1.0, 0.5), ("bob", 10, 2.0, None), ("carl", 10, 3.0, 0.9)):
        task = stand.lease(name).task
        stand.core.evaluations.record(task.client_id, task.task_id, num_samples=samples, loss=loss, accuracy=accuracy)
    metrics = stand.core.metrics.round(1)
    shown = metrics.summary()
    assert (shown["evaluations"], shown["evaluation_samples"]) == (3, 50)
    assert shown["evaluation_loss"] == pytest.approx((30 + 20 + 30) / 50)
    assert shown["accuracy"] == pytest.approx((15 + 9) / 40)
    assert (metrics.tasks_assigned, metrics.updates_accepted, metrics.num_samples) == (2, 2, 20)


def test_totals_count_every_kind_of_event(stand: Stand) -> None:
    stand.join("anna", "bob")
    for name in ("anna", "bob"):
        stand.report(name)
    stand.work()
    totals = stand.core.metrics.totals()
    assert (totals["client_registered"], totals["task_assigned"], totals["update_accepted"]) == (2, 2, 2)
    assert (totals["round_opened"], totals["round_closed"], totals["version_published"]) == (2, 1, 2)
    assert sum(count for kind, count in totals.items() if ":" not in kind) == len(stand.journal())


def test_asking_again_counts_nothing_twice(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.report("anna")
    assert stand.core.metrics.totals() == stand.core.metrics.totals()
    assert stand.core.metrics.round(1) == stand.core.metrics.round(1)


def test_counts_go_on_where_they_were_after_a_restart(durable: Stand) -> None:
    durable.join("anna", "bob")
    durable.report("anna")
    durable.work()
    before = durable.core.metrics.totals()
    durable.restart()
    assert durable.core.metrics.totals() == before
    durable.report("bob")
    durable.work()
    assert durable.core.metrics.totals()["update_accepted"] == 2
    assert durable.core.metrics.round(1).updates_accepted == 2
    with durable.core.store.snapshot() as records:
        assert records.journal.cursor("metrics")[0] == records.journal.last_seq()


def test_a_collector_made_later_counts_what_was_before_it(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.report("anna")
    assert MetricsCollector(stand.core.store).totals()["update_accepted"] == 1


def test_a_round_that_does_not_exist_has_no_metrics(stand: Stand) -> None:
    with pytest.raises(RoundNotFound):
        stand.core.metrics.round(9)
