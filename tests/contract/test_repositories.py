"""What the repositories promise, on every database."""

from dataclasses import replace
from typing import Any

import pytest

from fed_compute.errors import ClientNameTaken, JobExists, RecordConflict, RecordMissing, UpdateConflict
from fed_compute.ids import ClientId, JobId, RoundId, TaskId, UpdateId
from fed_compute.rounds.bookkeeping import account_of
from fed_compute.rounds.records import JobState, RoundMode, RoundState, TaskKind, TaskState, UpdateState
from fed_compute.storage.sql.store import Store
from tests.contract.samples import (
    NOW,
    add_job,
    add_update,
    client,
    evaluation_of,
    grant,
    round_of,
    task_of,
    update_of,
    version_of,
)


def test_a_job_is_found_by_id_and_by_name(store: Store) -> None:
    with store.transaction() as records:
        first = records.jobs.add(name="b", spec='{"π":1}', schema="[]", now=NOW)
        second = records.jobs.add(name="a", spec="{}", schema="[]", now=NOW)
        records.jobs.set_state(second.job_id, JobState.STOPPED)
    with store.snapshot() as records:
        assert records.jobs.get(first.job_id) == first
        assert records.jobs.named("b") == first
        assert records.jobs.named("c") is None
        assert records.jobs.all() == [first, replace(second, state=JobState.STOPPED)]


@pytest.mark.parametrize("state", JobState)
def test_every_state_of_a_job_can_be_kept(store: Store, state: JobState) -> None:
    with store.transaction() as records:
        job, _ = add_job(records)
        records.jobs.set_state(job.job_id, state)
    with store.snapshot() as records:
        assert records.jobs.get(job.job_id).state is state


def test_a_second_job_of_a_name_is_refused_and_nothing_of_the_transaction_stays(store: Store) -> None:
    def create() -> None:
        with store.transaction() as records:
            records.journal.append("job_created", at=NOW)
            records.jobs.add(name="a", spec="{}", schema="[]", now=NOW)

    create()
    with pytest.raises(JobExists):
        create()
    with store.snapshot() as records:
        assert len(records.jobs.all()) == 1
        assert len(records.journal.after(0)) == 1


def test_a_second_client_of_a_name_is_refused_and_nothing_of_the_transaction_stays(store: Store) -> None:
    def register() -> None:
        with store.transaction() as records:
            records.journal.append("client_registered", at=NOW)
            records.clients.add(client("anna"))

    register()
    with pytest.raises(ClientNameTaken):
        register()
    with store.snapshot() as records:
        assert records.clients.all() == [client("anna")]
        assert len(records.journal.after(0)) == 1


def test_signs_of_life_are_recorded_and_counted(store: Store) -> None:
    with store.transaction() as records:
        for name in ("anna", "bob", "carl"):
            records.clients.add(client(name))
        records.clients.mark_seen({ClientId("anna"): NOW + 5, ClientId("bob"): NOW + 9})
    with store.snapshot() as records:
        assert records.clients.count(seen_since=NOW + 5) == 2
        assert records.clients.find(ClientId("bob")) == replace(client("bob"), last_seen_at=NOW + 9)
        assert records.clients.find(ClientId("dora")) is None


def test_a_round_waits_for_whoever_is_here_and_has_not_reported_however_many_have(store: Store) -> None:
    with store.transaction() as records:
        _, round_ = add_job(records, "anna", "bob", "carl", "dora")
        for name in ("anna", "bob"):
            add_update(records, task_of(round_, name))
        records.clients.mark_seen({ClientId("anna"): NOW + 9, ClientId("carl"): NOW + 9})
    with store.snapshot() as records:
        assert records.clients.count_awaited(round_.round_id, seen_since=NOW + 9) == 1  # carl; bob and dora are gone
        assert records.clients.count_awaited(round_.round_id, seen_since=NOW) == 2
        assert records.clients.count_awaited(RoundId(99), seen_since=NOW) == 4


def test_a_round_comes_back_as_it_was_put(store: Store) -> None:
    with store.transaction() as records:
        _, round_ = add_job(records)
        started = replace(round_, state=RoundState.COLLECTING, started_at=NOW + 1 / 3, deadline=NOW + 60, reason="é")
        started = replace(started, left_seconds=2 / 3)
        records.rounds.put(started)
        assert records.rounds.get(round_.round_id, for_update=True) == started
    with store.snapshot() as records:
        assert records.rounds.find(round_.round_id) == started
        assert records.rounds.live(round_.job_id) == started
        assert records.rounds.in_states([RoundState.OPEN]) == []
        assert records.rounds.find(RoundId(99)) is None
        with pytest.raises(RecordMissing):
            records.rounds.get(RoundId(99))


def test_a_job_has_one_live_round(store: Store) -> None:
    with store.transaction() as records:
        job, first = add_job(records)
        add_job(records, name="other")
    with pytest.raises(RecordConflict), store.transaction() as records:
        records.rounds.add(round_of(job, number=2))
    with store.transaction() as records:
        records.rounds.put(replace(first, state=RoundState.CLOSED))
        second = records.rounds.add(round_of(job, number=2))
    with store.snapshot() as records:
        assert records.rounds.live(job.job_id) == second
        assert [round_.number for round_ in records.rounds.of_job(job.job_id)] == [1, 2]


def test_ended_rounds_are_listed_newest_first_and_only_closed_ones_count(store: Store) -> None:
    ends = [RoundState.CLOSED, RoundState.ABANDONED, RoundState.CLOSED]
    with store.transaction() as records:
        job, live = add_job(records)
        ended = [records.rounds.add(round_of(job, number=n, state=state)) for n, state in enumerate(ends, start=2)]
    with store.snapshot() as records:
        assert records.rounds.recent_closed_ids(job.job_id, limit=2) == [ended[2].round_id, ended[1].round_id]
        assert records.rounds.count_closed(job.job_id) == 2
        assert records.rounds.live(job.job_id) == live


def test_one_worker_at_a_time_holds_a_round(store: Store) -> None:
    with store.transaction() as records:
        _, round_ = add_job(records)
        claim, id_ = records.rounds.claim, round_.round_id
        assert claim(id_, worker="w" * 64, now=NOW, until=NOW + 60)
        assert not claim(id_, worker="other", now=NOW + 60, until=NOW + 90)
        assert claim(id_, worker="w" * 64, now=NOW + 50, until=NOW + 110)
        assert not claim(id_, worker="other", now=NOW + 70, until=NOW + 130)
        assert claim(id_, worker="other", now=NOW + 111, until=NOW + 171)


def test_a_client_holds_one_live_lease(store: Store) -> None:
    with store.transaction() as records:
        _, round_ = add_job(records, "anna", "bob")
        first = task_of(round_, "anna")
        records.tasks.add(first)
        records.tasks.add(task_of(round_, "bob"))
    with pytest.raises(RecordConflict), store.transaction() as records:
        records.tasks.add(task_of(round_, "anna", name="t_2"))
    with store.transaction() as records:
        records.tasks.put(replace(first, state=TaskState.RELEASED, ended_at=NOW))
        records.tasks.add(task_of(round_, "anna", name="t_2"))
    with store.snapshot() as records:
        assert records.tasks.live_of(ClientId("anna")) == task_of(round_, "anna", name="t_2")
        assert records.tasks.find(TaskId("t_3")) is None
        counts = records.tasks.count(round_.round_id, TaskKind.TRAIN)
        assert counts == {TaskState.LEASED: 2, TaskState.RELEASED: 1}


def test_the_live_leases_of_a_job_are_those_of_all_its_rounds(store: Store) -> None:
    with store.transaction() as records:
        job, first = add_job(records, "anna", "bob", "carl", "dora")
        records.rounds.put(replace(first, state=RoundState.CLOSED))
        second = records.rounds.add(round_of(job, number=2))
        other, elsewhere = add_job(records, "emil", name="other")
        old, new = replace(task_of(first, "anna"), leased_at=NOW - 5), task_of(second, "bob")
        ended = replace(task_of(second, "carl"), state=TaskState.EXPIRED, ended_at=NOW)
        measure = task_of(first, "dora", kind=TaskKind.EVALUATE)
        for task in (new, old, ended, measure, task_of(elsewhere, "emil")):
            records.tasks.add(task)
    with store.snapshot() as records:
        assert records.leases.of_job(job.job_id) == [old, new]
        assert (records.leases.count(job.job_id), records.leases.count(other.job_id)) == (2, 1)


def test_an_update_is_counted_once_the_round_that_counts_it_is_closed(store: Store) -> None:
    """Its lease may have begun in a round that was closed long before."""
    with store.transaction() as records:
        job, first = add_job(records, "anna", "bob")
        records.rounds.put(replace(first, state=RoundState.CLOSED))
        second = records.rounds.add(replace(round_of(job, number=2), mode=RoundMode.FEDBUFF, max_staleness=3))
        lease = task_of(first, "anna")
        records.tasks.add(replace(lease, state=TaskState.REPORTED, ended_at=NOW))
        records.updates.add(replace(update_of(lease), round_id=second.round_id))
        anna, bob = ClientId("anna"), ClientId("bob")
        assert records.updates.count(second.round_id, client_id=anna) == 1
        assert records.updates.count(second.round_id, client_id=bob) == 0
        assert records.updates.counted(job.job_id, [anna, bob], limit=9) == {anna: 0, bob: 0}
        records.rounds.put(replace(second, state=RoundState.CLOSED))
        assert records.updates.counted(job.job_id, [anna, bob], limit=9) == {anna: 1, bob: 0}


def test_overdue_leases_come_in_the_order_of_their_deadlines(store: Store) -> None:
    deadlines = {"anna": NOW + 3, "bob": NOW + 1, "carl": NOW + 2, "dora": NOW + 9}
    with store.transaction() as records:
        _, round_ = add_job(records, *deadlines)
        for name, deadline in deadlines.items():
            records.tasks.add(replace(task_of(round_, name), deadline=deadline))
    with store.snapshot() as records:
        assert [task.client_id for task in records.tasks.overdue(NOW + 5, limit=2)] == ["bob", "carl"]
        assert len(records.tasks.overdue(NOW + 5, limit=10)) == 3


@pytest.mark.parametrize(
    ("mode", "fields", "is_overdue"),
    [
        (RoundMode.SYNC, {"heartbeats": False}, False),
        (RoundMode.ASYNC, {"heartbeats": False}, False),
        (RoundMode.SYNC, {"heartbeats": True}, True),
        (RoundMode.SYNC, {"heartbeats": False, "kind": TaskKind.EVALUATE}, True),
        (RoundMode.FEDBUFF, {"heartbeats": False}, True),
    ],
)
def test_in_a_pause_a_lease_that_lasts_as_long_as_its_round_cannot_run_out(
    store: Store, mode: RoundMode, fields: dict[str, Any], is_overdue: bool
) -> None:
    with store.transaction() as records:
        _, round_ = add_job(records, "anna")
        records.rounds.put(replace(round_, mode=mode, left_seconds=0.0))
        records.tasks.add(replace(task_of(round_, "anna"), deadline=NOW, **fields))
    with store.snapshot() as records:
        assert bool(records.tasks.overdue(NOW + 5, limit=2)) is is_overdue


def test_tasks_are_found_by_client_round_kind_and_version(store: Store) -> None:
    with store.transaction() as records:
        job, round_ = add_job(records, "anna")
        old = replace(task_of(round_, "anna", name="t_1"), state=TaskState.EXPIRED, ended_at=NOW)
        new = replace(task_of(round_, "anna", name="t_2"), leased_at=NOW + 1)
        measure = task_of(round_, "anna", name="t_3", kind=TaskKind.EVALUATE)
        measure = replace(measure, state=TaskState.REPORTED, ended_at=NOW)
        for task in (old, new, measure):
            records.tasks.add(task)
    anna = ClientId("anna")
    with store.snapshot() as records:
        assert records.tasks.of_client_in_round(anna, round_.round_id, TaskKind.TRAIN) == [new, old]
        assert records.tasks.of_round(round_.round_id, TaskKind.TRAIN) == [old, new]
        assert records.leases.of_job(job.job_id) == [new]
        assert records.tasks.evaluated_by(anna, job.job_id, 1)
        assert not records.tasks.evaluated_by(anna, job.job_id, 2)


def test_updates_keep_their_sequence_and_come_back_as_they_were_added(store: Store) -> None:
    with store.transaction() as records:
        _, round_ = add_job(records, "anna", "bob", "carl")
        updates = [add_update(records, task_of(round_, name)) for name in ("carl", "anna", "bob")]
    with store.snapshot() as records:
        assert records.updates.of_round(round_.round_id) == updates
        assert records.updates.of_round(round_.round_id, after=updates[0].update_id) == updates[1:]
        assert records.updates.of_task(TaskId("t_anna")) == updates[1]
        assert records.updates.get(updates[2].update_id) == updates[2]
        assert records.updates.count(round_.round_id) == 3
        assert list(records.updates.all()) == updates
        with pytest.raises(RecordMissing):
            records.updates.get(UpdateId(99))
    assert updates[0].update_id < updates[1].update_id < updates[2].update_id


def test_a_second_update_of_a_task_is_a_conflict(store: Store) -> None:
    with store.transaction() as records:
        _, round_ = add_job(records, "anna")
        first = add_update(records, task_of(round_, "anna"))
    with pytest.raises(UpdateConflict), store.transaction() as records:
        records.updates.add(update_of(task_of(round_, "anna")))
    with store.snapshot() as records:
        assert records.updates.of_round(round_.round_id) == [first]


def test_the_updates_of_an_abandoned_round_become_late(store: Store) -> None:
    with store.transaction() as records:
        _, round_ = add_job(records, "anna", "bob")
        for name in ("anna", "bob"):
            add_update(records, task_of(round_, name))
        assert records.updates.list_as_late(round_.round_id) == 2
    with store.snapshot() as records:
        assert {update.state for update in records.updates.all()} == {UpdateState.LATE}


def test_a_task_is_evaluated_once(store: Store) -> None:
    with store.transaction() as records:
        job, round_ = add_job(records, "anna")
        task = task_of(round_, "anna", kind=TaskKind.EVALUATE)
        records.tasks.add(task)
        records.evaluations.add_all([evaluation_of(task, accuracy=None)])
    with pytest.raises(RecordConflict), store.transaction() as records:
        records.evaluations.add_all([evaluation_of(task, accuracy=0.5)])
    with store.snapshot() as records:
        assert records.evaluations.of_job(job.job_id) == [evaluation_of(task, accuracy=None)]


def test_a_version_is_written_once(store: Store) -> None:
    with store.transaction() as records:
        job, round_ = add_job(records)
        second = version_of(job.job_id, 2, round_.round_id)
        records.versions.add(second)
    for again in (version_of(job.job_id, 2), version_of(job.job_id, 3, round_.round_id)):
        with pytest.raises(RecordConflict), store.transaction() as records:
            records.versions.add(again)
    with store.snapshot() as records:
        assert records.versions.of_job(job.job_id) == [version_of(job.job_id, 1), second]
        assert records.versions.latest(job.job_id) == second
        assert records.versions.of_round(round_.round_id) == second
        assert records.versions.find(job.job_id, 3) is None


def test_a_row_that_refers_to_nothing_is_refused(store: Store) -> None:
    with pytest.raises(RecordConflict), store.transaction() as records:
        records.versions.add(version_of(JobId(7), 1))


def test_a_projection_is_written_overwritten_and_forgotten(store: Store) -> None:
    with store.transaction() as records:
        records.standings.put("anna", {"n": 1})
        records.standings.put("bob", {"n": 2})
        records.standings.put("anna", {"n": 3})
        records.round_metrics.put(7, {"x": None}, job_id=1)
        records.earnings.put("anna", {})
    with store.transaction() as records:
        assert records.standings.all() == {"anna": {"n": 3}, "bob": {"n": 2}}
        assert records.round_metrics.get(7) == {"x": None}
        assert records.earnings.get("bob") is None
        records.standings.clear()
        assert records.standings.all() == {}


@pytest.mark.parametrize("number", [0.1 + 0.2, 1e308, 5e-324, -1 / 3, 1_700_000_000.123456])
def test_a_number_comes_back_with_every_bit(store: Store, number: float) -> None:
    with store.transaction() as records:
        records.journal.append("x", at=number, number=number)
    with store.snapshot() as records:
        assert records.journal.after(0)[0].at.hex() == number.hex()


def test_the_longest_names_that_the_product_allows_fit(store: Store) -> None:
    name = "n" * 64
    with store.transaction() as records:
        add_job(records, name, name=name)
        grant(records, "k" * 120, name)
        records.journal.append("k" * 40, at=NOW, client_id=ClientId(name), task_id=TaskId("t" * 32))
    with store.snapshot() as records:
        assert records.clients.find(ClientId(name)) is not None
        assert account_of(ClientId(name)) in records.ledger.balances()
