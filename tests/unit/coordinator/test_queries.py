"""Questions about the records, for whoever shows them."""

import pytest

from fed_compute.coordinator.queries import (
    Population,
    accepted_update,
    entries_after,
    last_seq,
    live_round,
    population,
    seq_before,
    view_round,
)
from fed_compute.errors import RoundNotFound, TaskNotFound
from fed_compute.ids import ClientId, JobId, TaskId
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, tiny_job


def test_a_round_is_shown_with_its_tasks_updates_and_result(stand: Stand) -> None:
    stand.join("anna", "bob")
    for name in ("anna", "bob"):
        stand.report(name)
        stand.clock.advance(1)
    before = view_round(stand.core.store, 1)
    assert before.version is None
    stand.work()
    view = view_round(stand.core.store, 1)
    assert (view.round, view.version, view.job.name) == (stand.round(), stand.versions()[-1], "default")
    assert [task.client_id for task in view.tasks] == [update.client_id for update in view.updates] == ["anna", "bob"]


def test_evaluations_are_not_shown_as_a_rounds_tasks(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"evaluation": {"every_rounds": 1}}))
    stand.join("anna")
    stand.report("anna")
    stand.work()
    assert stand.lease("anna").task.kind == "evaluate"
    assert len(view_round(stand.core.store, 1).tasks) == 1


def test_a_round_that_does_not_exist_cannot_be_shown(stand: Stand) -> None:
    with pytest.raises(RoundNotFound):
        view_round(stand.core.store, 2)


def test_the_live_round_of_a_job_is_the_one_that_is_not_over(open_stand: OpenStand) -> None:
    stand = open_stand()
    job = stand.create(tiny_job(total=1))
    assert live_round(stand.core.store, job.job_id) == stand.round(1)
    stand.join("anna")
    stand.report("anna")
    stand.work()
    assert live_round(stand.core.store, job.job_id) is None
    assert live_round(stand.core.store, JobId(99)) is None


def test_a_client_sees_its_own_update_only(stand: Stand) -> None:
    stand.join("anna", "bob")
    task_id, store = stand.lease("anna").task.task_id, stand.core.store
    assert accepted_update(store, ClientId("anna"), task_id) is None
    update = stand.report("anna")
    assert accepted_update(store, ClientId("anna"), task_id) == update
    for client, asked in (("bob", task_id), ("anna", TaskId("t_0"))):
        with pytest.raises(TaskNotFound):
            accepted_update(store, ClientId(client), asked)


def test_the_population_counts_who_is_registered_and_who_was_heard_of(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.clock.advance(60)
    stand.join("carl")
    assert population(stand.core.store, seen_since=stand.clock.now() - 45) == Population(registered=3, active=1)


def test_the_journal_is_read_in_portions(stand: Stand) -> None:
    stand.join("anna", "bob")
    store = stand.core.store
    everything = entries_after(store, 0, limit=100)
    assert everything[-1].seq == last_seq(store)
    assert [*entries_after(store, 0, limit=3), *entries_after(store, everything[2].seq, limit=100)] == everything
    assert entries_after(store, last_seq(store), limit=5) == []


@pytest.mark.parametrize("moment", [0.0, 4.0, 9.5, 10.0, 15.0, 19.0, 99.0])
def test_the_entry_before_a_moment_is_found_where_many_have_one_time(stand: Stand, moment: float) -> None:
    """What one transaction writes has one time."""
    store = stand.core.store
    with store.transaction() as records:
        first = records.journal.last_seq()
        for number in range(30):
            records.journal.append("x", at=stand.clock.now() + 1000 + number // 3 * 2)
    begun = stand.clock.now() + 1000
    older = [entry.seq for entry in entries_after(store, 0, limit=1000) if entry.at < begun + moment]
    assert seq_before(store, begun + moment) == max(older) >= first
