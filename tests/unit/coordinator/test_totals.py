"""What is added up for each job, so that a scrape costs the same however many rounds there were."""

import pytest

from fed_compute.coordinator.readings import READERS, JobReading, Readings, read
from fed_compute.coordinator.totals import JobTotals
from fed_compute.errors import UpdateRefused
from fed_compute.ids import ClientId, TaskId
from fed_compute.rounds.records import TaskKind
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job


def readings(stand: Stand) -> Readings:
    """Return what a scrape reads, with every reader at the end of the journal."""
    stand.work()
    now = stand.clock.now()
    return read(stand.core.store, now=now, seen_since=now - 45)


def job(stand: Stand) -> JobReading:
    """Return what a scrape reads of the first job."""
    return readings(stand).jobs[0]


def totals(stand: Stand) -> JobTotals:
    """Return what was added up for the first job."""
    return job(stand).totals


def play(stand: Stand, *losses: float, seconds: float = 4.0) -> None:
    """Let a round be closed by clients who tell these losses, so many seconds after their leases."""
    leases = [(name, stand.lease(name)) for name in ("anna", "bob")]
    stand.clock.advance(seconds)
    for (name, lease), loss in zip(leases, losses, strict=True):
        stand.send(name, lease, body_for(lease, loss=loss))
    stand.work()


def test_a_job_that_did_nothing_yet_has_zeros_and_no_means(stand: Stand) -> None:
    found = totals(stand)
    assert dict(found.rounds) == {"opened": 1, "closed": 0, "abandoned": 0}
    assert dict(found.updates) == {"accepted": 0, "refused": 0, "late": 0}
    assert (found.update_bytes, found.num_samples, dict(found.tasks)) == (0, 0, {})
    assert (found.train_loss, found.evaluation_loss, found.accuracy, found.last_closed_at) == (None,) * 4
    assert sum(found.round_seconds.counts) == 0


def test_rounds_are_added_up_with_their_durations_and_the_loss_is_the_newest_ones(stand: Stand) -> None:
    stand.join("anna", "bob")
    play(stand, 3.0, 5.0, seconds=4)
    first_end = stand.clock.now()
    assert totals(stand).train_loss == 4.0
    play(stand, 1.0, 1.0, seconds=20)
    found = totals(stand)
    assert dict(found.rounds) == {"opened": 3, "closed": 2, "abandoned": 0}
    assert (found.train_loss, found.last_closed_at) == (1.0, first_end + 20)
    assert (found.round_seconds.total, found.latency_seconds.total) == (24, 2 * 24)
    assert dict(found.round_seconds.cumulative())["5.0"] == 1
    assert dict(found.round_seconds.cumulative())["+Inf"] == 2
    assert (found.updates["accepted"], found.num_samples) == (4, 40)
    assert found.update_bytes == sum(update.size_bytes for number in (1, 2) for update in stand.updates(number))
    assert job(stand).latest_version == 3


@pytest.mark.parametrize("is_resumed", [True, False])
def test_a_pause_is_no_part_of_how_long_a_round_takes(stand: Stand, is_resumed: bool) -> None:
    stand.join("anna", "bob")
    leases = [(name, stand.lease(name)) for name in ("anna", "bob")]
    stand.clock.advance(3)
    stand.core.steering.pause("default", by="test")
    stand.clock.advance(20)  # what was begun may still be delivered
    if is_resumed:
        stand.core.steering.resume("default", by="test")
        stand.clock.advance(2)
    for name, lease in leases:
        stand.send(name, lease, body_for(lease))
    assert totals(stand).round_seconds.total == (5 if is_resumed else 3)


def test_an_abandoned_round_leaves_nothing_behind(stand: Stand) -> None:
    stand.join("anna")
    stand.lease("anna")
    stand.clock.advance(200)
    found = totals(stand)
    assert found.rounds["abandoned"] == 1
    assert found.tasks["train", "expired"] == 1
    assert sum(found.round_seconds.counts) == 0
    with stand.core.store.snapshot() as records:
        _, state = records.journal.cursor("metrics")
    assert state["jobs"]["1"]["live"] == {}


def test_refusals_are_counted_by_job_and_by_code(stand: Stand) -> None:
    stand.join("anna")
    lease = stand.lease("anna")
    with pytest.raises(UpdateRefused):
        stand.send("anna", lease, b"x")
    found = readings(stand)
    assert found.jobs[0].totals.updates["refused"] == 1
    assert dict(found.refusals) == {"update_malformed": 1}
    assert "refused:update_malformed" not in found.events


def test_only_measurements_of_the_newest_measured_version_count(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"evaluation": {"every_rounds": 1, "max_clients": 2}}))
    stand.join("anna", "bob")
    for loss in (8.0, 2.0):
        play(stand, 1.0, 1.0)
        for name, samples in (("anna", 10), ("bob", 30)):
            task = stand.lease(name).task
            assert task.kind is TaskKind.EVALUATE
            stand.core.evaluations.record(
                task.client_id, TaskId(task.task_id), num_samples=samples, loss=loss * samples, accuracy=samples / 100
            )
    found = totals(stand)
    assert found.evaluation_loss == pytest.approx((20 * 10 + 60 * 30) / 40)
    assert found.accuracy == pytest.approx((0.1 * 10 + 0.3 * 30) / 40)


def test_jobs_are_counted_apart(stand: Stand) -> None:
    stand.create(tiny_job("other"))
    stand.join("anna")
    stand.lease("anna", job="other")
    first, other = readings(stand).jobs
    assert dict(first.totals.tasks) == {}
    assert dict(other.totals.tasks) == {("train", "assigned"): 1}


def test_live_and_overdue_leases_are_told_apart(stand: Stand) -> None:
    stand.join("anna", "bob")
    anna = stand.lease("anna").task
    stand.clock.advance(20)
    stand.lease("bob")
    stand.clock.advance(anna.deadline - stand.clock.now() + 1)
    found = read(stand.core.store, now=stand.clock.now(), seen_since=0.0)  # before the duty has ended anna's
    assert dict(found.leases) == {(anna.job_id, TaskKind.TRAIN): (2, 1)}


def test_clients_are_counted_by_state_and_by_presence(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.core.clients.ban(ClientId("bob"), by="test", reason="test", with_invited=False)
    found = readings(stand)
    assert dict(found.clients) == {"active": 1, "pending": 0, "banned": 1}
    assert found.clients_present == 1


def test_credit_is_what_was_granted(stand: Stand) -> None:
    stand.join("anna", "bob")
    play(stand, 1.0, 1.0)
    found = readings(stand)
    with stand.core.store.snapshot() as records:
        balances = records.ledger.balances()
    assert found.credit_micro_tokens == sum(amount for account, amount in balances.items() if account != "mint") > 0


def test_the_lag_of_a_reader_is_what_it_has_not_read(stand: Stand) -> None:
    assert set(readings(stand).lags.values()) == {0}
    before = len(stand.journal())
    stand.join("anna")
    stand.lease("anna")
    found = read(stand.core.store, now=stand.clock.now(), seen_since=0.0)
    assert dict(found.lags) == dict.fromkeys(READERS, len(stand.journal()) - before)


def test_what_an_earlier_version_did_not_add_up_is_read_anew_from_the_journal(durable: Stand) -> None:
    """That version kept counts of events alone beside the cursor; nothing of its may be counted twice."""
    durable.join("anna", "bob")
    play(durable, 1.0, 2.0)
    before, events = totals(durable), durable.core.metrics.totals()
    with durable.core.store.transaction() as records:
        records.journal.move_cursor("metrics", records.journal.last_seq(), events)
    durable.restart()
    assert (totals(durable), durable.core.metrics.totals()) == (before, events)
    assert durable.core.metrics.round(1).updates_accepted == 2
