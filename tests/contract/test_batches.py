"""Batches on every database: many rows at once are written and found as they would be one by one."""

from dataclasses import replace

import pytest

from fed_compute.errors import RecordConflict
from fed_compute.ids import ClientId, RoundId, TaskId, UpdateId
from fed_compute.rounds.records import ClientState, Job, Round, RoundState, Task, TaskState
from fed_compute.storage.sql.bulk import Free
from fed_compute.storage.sql.journal import task_line, task_lines
from fed_compute.storage.sql.store import Records, Store
from tests.contract.samples import NOW, add_job, add_update, client, round_of, task_of, update_of

NAMES = [ClientId(name) for name in ("anna", "bob", "carl", 'it\'s "é" %s ?', "dora")]
NOBODY = ClientId("nobody")


def add_crowd(records: Records) -> tuple[Job, Round, list[Task]]:
    """Store clients, and a job in whose first round each has a lease."""
    job, round_ = add_job(records)
    records.bulk.add_clients([client(name) for name in NAMES])
    tasks = [
        replace(task_of(round_, name), soft_deadline=NOW + place / 3, heartbeats=place == 0)
        for place, name in enumerate(NAMES)
    ]
    records.bulk.add_tasks(tasks)
    return job, round_, tasks


def test_rows_that_were_written_together_are_those_that_were_given(store: Store) -> None:
    with store.transaction() as records:
        _, round_, tasks = add_crowd(records)
        numbers = records.bulk.next_update_ids(len(tasks))
        updates = [
            replace(update_of(task), update_id=number, l2_norm=number / 3)
            for task, number in zip(tasks, numbers, strict=True)
        ]
        records.bulk.add_updates(updates)
    with store.snapshot() as records:
        assert [records.clients.find(name) for name in NAMES] == [client(name) for name in NAMES]
        assert records.updates.of_round(round_.round_id) == updates
        assert records.bulk.reports(round_.round_id) == {one.client_id: one.l2_norm for one in updates}
        reported = [replace(one, state=TaskState.REPORTED, progress=1.0, ended_at=NOW) for one in tasks]
        assert records.bulk.tasks([task.task_id for task in tasks]) == {one.task_id: one for one in reported}


def test_nothing_to_write_is_fine_and_nothing_asked_for_is_nothing_found(store: Store) -> None:
    with store.transaction() as records:
        job, round_ = add_job(records)
        records.bulk.add_clients([])
        records.bulk.add_tasks([])
        records.bulk.end_tasks([])
        records.bulk.add_updates([])
        records.journal.append_all([])
        assert records.bulk.next_update_ids(0) == []
        assert not records.bulk.states([])
        assert not records.bulk.free([], round_.round_id)
        assert not records.bulk.tasks([])
        assert records.updates.counted(job.job_id, [], limit=9) == {}


def test_updates_of_a_batch_and_single_ones_stand_in_one_sequence(store: Store) -> None:
    with store.transaction() as records:
        _, _, tasks = add_crowd(records)
        first = records.updates.add(update_of(tasks[0]))
        second, third = records.bulk.next_update_ids(2)
        pairs = ((tasks[1], second), (tasks[2], third))
        records.bulk.add_updates([replace(update_of(task), update_id=number) for task, number in pairs])
        fourth = records.updates.add(update_of(tasks[3]))
    with store.transaction() as records:
        (fifth,) = records.bulk.next_update_ids(1)
        assert first < second < third < fourth < fifth
        assert [one.update_id for one in records.updates.all()] == [first, second, third, fourth]


def test_a_batch_with_a_second_live_lease_or_update_of_one_client_is_lost_as_a_whole(store: Store) -> None:
    with store.transaction() as records:
        _, round_, tasks = add_crowd(records)
        records.bulk.end_tasks([replace(task, state=TaskState.RELEASED, ended_at=NOW) for task in tasks[:2]])
    again = [task_of(round_, name, name=f"t_again_{place}") for place, name in enumerate((NAMES[0], NAMES[4]))]
    with pytest.raises(RecordConflict), store.transaction() as records:
        records.bulk.add_tasks(again)
    twice = [replace(update_of(tasks[2]), update_id=UpdateId(number)) for number in (1, 2)]
    with pytest.raises(RecordConflict), store.transaction() as records:
        records.bulk.add_updates(twice)
    with store.snapshot() as records:
        assert records.bulk.tasks([task.task_id for task in again]) == {}
        assert records.updates.count(round_.round_id) == 0


def test_free_is_who_is_active_without_a_live_lease_and_without_an_update_in_the_round(store: Store) -> None:
    with store.transaction() as records:
        job, round_ = add_job(records, "leased", "reported", "elsewhere", "gone", "banned", "limited")
        records.tasks.add(task_of(round_, "leased"))
        add_update(records, task_of(round_, "reported"))
        other, elsewhere = add_job(records, name="other")
        add_update(records, task_of(elsewhere, "elsewhere"))
        records.tasks.add(replace(task_of(round_, "gone"), state=TaskState.EXPIRED, ended_at=NOW))
        records.clients.put(replace(client("banned"), state=ClientState.BANNED))
        records.clients.put(replace(client("limited"), rounds_per_day=3))
        records.standings.put("limited", {"score": 1})
    asked = [ClientId(name) for name in ("nobody", "leased", "reported", "elsewhere", "gone", "banned", "limited")]
    with store.snapshot() as records:
        found = records.bulk.free(asked, round_.round_id)
        assert found == {
            "elsewhere": Free(ClientId("elsewhere"), None, None),
            "gone": Free(ClientId("gone"), None, None),
            "limited": Free(ClientId("limited"), 3, '{"score":1}'),
        }
        states = records.bulk.states([NOBODY, ClientId("banned"), ClientId("gone")])
        assert states == {"banned": ClientState.BANNED, "gone": ClientState.ACTIVE}
    assert other.job_id != job.job_id


def test_the_end_of_a_task_leaves_what_else_is_on_record_of_it(store: Store) -> None:
    with store.transaction() as records:
        _, _, tasks = add_crowd(records)
        heard = replace(tasks[0], progress=0.5, deadline=NOW + 99)
        records.tasks.put(heard)
        records.bulk.end_tasks([replace(tasks[0], state=TaskState.EXPIRED, ended_at=NOW + 1)])
    with store.snapshot() as records:
        assert records.tasks.get(heard.task_id) == replace(heard, state=TaskState.EXPIRED, ended_at=NOW + 1)


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_what_the_last_leases_of_many_took_is_what_those_of_each_took(store: Store, limit: int) -> None:
    """Clients with one lease up to more than the limit; those of another job and those not reported stay out."""
    with store.transaction() as records:
        job, _ = add_job(records, *NAMES)
        other, elsewhere = add_job(records, name="other")
        for number in range(4):
            round_ = records.rounds.add(round_of(job, number=number, state=RoundState.CLOSED))
            for place, name in enumerate(NAMES[number:]):
                lease, end = task_of(round_, name, name=f"t_{number}_{place}"), NOW + number + place / 3
                records.tasks.add(replace(lease, state=TaskState.REPORTED, ended_at=end))
        records.tasks.add(replace(task_of(elsewhere, NAMES[0]), state=TaskState.REPORTED, ended_at=NOW + 50))
        lost = task_of(round_, NAMES[0], name="t_lost")
        records.tasks.add(replace(lost, state=TaskState.EXPIRED, ended_at=NOW + 60))
        each = {name: records.measured.training_seconds_of(name, job.job_id, limit=limit) for name in NAMES}
        assert records.measured.training_seconds_of_each([*NAMES, NOBODY], job.job_id, limit=limit) == each
    assert {len(seconds) for seconds in each.values()} == set(range(1, limit + 1))
    assert other.job_id != job.job_id


def test_updates_are_counted_up_to_the_limit_and_only_of_rounds_before(store: Store) -> None:
    with store.transaction() as records:
        job, _ = add_job(records, "anna", "bob")
        rounds = [records.rounds.add(round_of(job, number=n, state=RoundState.CLOSED)) for n in range(3)]
        for number, round_ in enumerate(rounds):
            add_update(records, task_of(round_, "anna", name=f"t_{number}"))
        anna, bob = ClientId("anna"), ClientId("bob")

        def counted(limit: int, before: RoundId) -> dict[ClientId, int]:
            return records.updates.counted(job.job_id, [anna, bob], limit=limit, before=before)

        after = RoundId(rounds[2].round_id + 1)
        assert counted(9, after) == {anna: 3, bob: 0}
        assert counted(2, after) == {anna: 2, bob: 0}
        assert counted(9, rounds[2].round_id) == {anna: 2, bob: 0}


def test_the_times_of_a_rounds_updates_come_newest_first(store: Store) -> None:
    with store.transaction() as records:
        _, round_ = add_job(records, "anna", "bob", "carl")
        for seconds, name in ((3.0, "anna"), (1.0, "bob"), (2.0, "carl")):
            task = replace(task_of(round_, name), state=TaskState.REPORTED, ended_at=NOW + seconds)
            records.tasks.add(task)
            records.updates.add(update_of(task))
        assert records.measured.seconds_of_round(round_.round_id, limit=2) == [2.0, 1.0]
        assert records.measured.seconds_of_round(RoundId(99), limit=2) == []


def test_lines_about_many_tasks_are_those_about_each(store: Store) -> None:
    with store.transaction() as records:
        _, _, tasks = add_crowd(records)
        lines = task_lines("task_assigned", tasks, at=NOW, version=1)
        assert lines == [task_line("task_assigned", task, at=NOW, version=1) for task in tasks]
        records.journal.append_all(lines)
    with store.snapshot() as records:
        found = records.journal.newest(limit=len(tasks))[::-1]
        assert [(one.task_id, one.client_id, one.payload) for one in found] == [
            (TaskId(f"t_{name}"), name, '{"version":1}') for name in NAMES
        ]
        assert records.journal.last_seq() == found[-1].seq
