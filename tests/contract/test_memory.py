"""What a process remembers of its batches is never told when it is no longer so, on any database."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import event

from fed_compute.errors import RecordConflict
from fed_compute.ids import ClientId, RoundId
from fed_compute.rounds.leases import OWN_TASKS
from fed_compute.rounds.records import ClientState, JobState, Round, RoundState, Task, TaskState, Update, UpdateState
from fed_compute.storage.sql.journal import JournalRows, task_lines
from fed_compute.storage.sql.memory import MOST_ROUNDS
from fed_compute.storage.sql.store import Records, Store
from tests.contract.conftest import Place
from tests.contract.samples import NOW, add_job, client, round_of, task_of, update_of

ANNA, BOB, CARL = (ClientId(name) for name in ("anna", "bob", "carl"))
NAMES = (ANNA, BOB, CARL)


def lease(store: Store) -> tuple[Round, list[Task]]:
    """Give each client a lease in a batch."""
    with store.transaction() as records:
        _, round_ = add_job(records, *NAMES)
    tasks = [task_of(round_, name) for name in NAMES]
    with store.batch() as records:
        records.bulk.add_tasks(tasks)
        records.journal.append_all(task_lines("task_assigned", tasks, at=NOW))
    return round_, tasks


def report(store: Store, tasks: list[Task]) -> list[Update]:
    """Take in the updates of tasks in a batch."""
    with store.batch() as records:
        numbers = records.bulk.next_update_ids(len(tasks))
        updates = [
            replace(update_of(one), update_id=number, received_at=NOW + number / 3)
            for one, number in zip(tasks, numbers, strict=True)
        ]
        records.bulk.add_updates(updates)
        records.journal.append_all(task_lines("update_accepted", tasks, at=NOW))
    return updates


def told(store: Store, round_: Round, tasks: list[Task]) -> tuple[object, object, list[Update], list[object]]:
    """Return what a store tells of tasks, clients, updates, and the round with all that belongs to it."""
    with store.snapshot() as records:
        tasks_now = records.bulk.tasks([task.task_id for task in tasks])
        updates, job = records.updates.of_round(round_.round_id), records.jobs.get(round_.job_id)
        counts = records.updates.count(round_.round_id), records.leases.count_of_round(round_.round_id)
        about_round = [records.rounds.get(round_.round_id), job, records.bulk.reports(round_.round_id), counts]
        about_round.append(records.measured.training_seconds_of_each(NAMES, round_.job_id, limit=OWN_TASKS))
        return tasks_now, records.bulk.states(NAMES), updates, about_round


def as_it_is(place: Place, round_: Round, tasks: list[Task]) -> tuple[object, object, list[Update], list[object]]:
    """Return the same from a process that has just started."""
    return told(Store(place.database()), round_, tasks)


def test_what_a_batch_wrote_is_not_asked_for_again(place: Place) -> None:
    database = place.database()
    store, asked = Store(database), list[str]()
    round_, tasks = lease(store)
    event.listen(database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    with store.snapshot() as records:
        assert records.bulk.tasks([task.task_id for task in tasks]) == {task.task_id: task for task in tasks}
        assert records.bulk.states(NAMES) == dict.fromkeys(NAMES, "active")
    assert not [text for text in asked if "FROM tasks" in text or "FROM clients" in text]
    told(store, round_, [])
    updates = report(store, tasks)
    asked.clear()
    told_now = told(store, round_, [])
    assert not [text for text in asked if "FROM" in text and "journal" not in text and "FROM clients" not in text]
    assert told_now[2] == updates
    assert told_now == as_it_is(place, round_, [])


def test_a_round_that_a_batch_opens_is_known_from_its_beginning(place: Place) -> None:
    database = place.database()
    store, asked = Store(database), list[str]()
    first, _ = lease(store)
    with store.batch() as records:
        records.rounds.put(replace(first, state=RoundState.CLOSED))
        round_ = records.rounds.add(round_of(records.jobs.get(first.job_id), number=2))
        records.journal.append("round_opened", at=NOW, round_id=round_.round_id)
    later = [task_of(round_, name, name=f"t_later_{name}") for name in NAMES]
    with store.batch() as records:
        ended = records.leases.of_job(first.job_id)
        records.bulk.end_tasks([replace(task, state=TaskState.CANCELLED, ended_at=NOW) for task in ended])
        records.bulk.add_tasks(later)
        records.journal.append_all(task_lines("task_assigned", later, at=NOW))
    report(store, later[:2])
    event.listen(database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    with store.snapshot() as records:
        reports, record = records.bulk.reports(round_.round_id), records.rounds.get(round_.round_id)
        num_leased = records.leases.count_of_round(round_.round_id)
    assert not [text for text in asked if "FROM" in text and "journal" not in text]
    assert (num_leased, list(reports), record) == (1, [ANNA, BOB], round_)
    assert told(store, round_, later) == as_it_is(place, round_, later)
    assert told(store, first, []) == as_it_is(place, first, [])


def end_a_lease(records: Records, task: Task) -> None:
    records.tasks.put(replace(task, state=TaskState.EXPIRED, ended_at=NOW))
    records.journal.append_all(task_lines("task_expired", [task], at=NOW))


def ban(records: Records, task: Task) -> None:
    records.clients.put(replace(client(task.client_id), state=ClientState.BANNED))
    records.journal.append("client_banned", at=NOW, client_id=task.client_id)


def report_alone(records: Records, task: Task) -> None:
    records.updates.add(update_of(task))
    records.tasks.put(replace(task, state=TaskState.REPORTED, ended_at=NOW))
    records.journal.append_all(task_lines("update_accepted", [task], at=NOW))


def begin_the_round(records: Records, task: Task) -> None:
    records.rounds.put(replace(records.rounds.get(task.round_id), state=RoundState.COLLECTING, started_at=NOW))
    records.journal.append("round_started", at=NOW, round_id=task.round_id)


def pause_the_job(records: Records, task: Task) -> None:
    records.jobs.set_state(task.job_id, JobState.PAUSED)
    records.journal.append("job_paused", at=NOW, job_id=task.job_id)


@pytest.mark.parametrize("happens", [end_a_lease, ban, report_alone, begin_the_round, pause_the_job])
@pytest.mark.parametrize("is_here", [True, False])
def test_whatever_happens_outside_of_batches_is_seen(
    place: Place, happens: Callable[[Records, Task], None], is_here: bool
) -> None:
    here, elsewhere = Store(place.database()), Store(place.database())
    round_, tasks = lease(here)
    report(here, tasks[:1])
    with (here if is_here else elsewhere).transaction() as records:
        happens(records, tasks[1])
    assert told(here, round_, tasks) == as_it_is(place, round_, tasks)
    report(here, tasks[2:])
    assert told(here, round_, tasks) == as_it_is(place, round_, tasks)


def end_and_stop(store: Store, task: Task) -> None:
    with store.batch() as records:
        records.bulk.end_tasks([replace(task, state=TaskState.CANCELLED, ended_at=NOW)])
        records.rounds.put(replace(records.rounds.get(task.round_id), state=RoundState.ABANDONED))
        records.jobs.set_state(task.job_id, JobState.STOPPED)
        raise RuntimeError("the process is stopped")


def test_a_batch_that_is_undone_leaves_nothing(place: Place) -> None:
    store = Store(place.database())
    round_, tasks = lease(store)
    new = task_of(round_, ANNA, name="t_new")
    with pytest.raises(RecordConflict), store.batch() as records:
        records.bulk.add_tasks([replace(new, state=TaskState.CANCELLED, ended_at=NOW), tasks[1]])
    with pytest.raises(RuntimeError, match="the process is stopped"):
        end_and_stop(store, tasks[0])
    assert told(store, round_, tasks) == as_it_is(place, round_, tasks)


def test_a_batch_sees_what_it_has_written_itself(place: Place) -> None:
    store = Store(place.database())
    _, tasks = lease(store)
    with store.batch() as records:
        ended = replace(tasks[0], state=TaskState.CANCELLED, ended_at=NOW)
        records.bulk.end_tasks([ended])
        assert records.bulk.tasks([ended.task_id]) == {ended.task_id: ended}


def test_updates_of_a_round_that_a_batch_gives_up_are_late(place: Place) -> None:
    store = Store(place.database())
    round_, tasks = lease(store)
    report(store, tasks[:2])
    with store.batch() as records:
        records.updates.list_as_late(round_.round_id)
        records.journal.append("round_abandoned", at=NOW, round_id=round_.round_id)
    assert {update.state for update in told(store, round_, [])[2]} == {UpdateState.LATE}


def test_updates_of_old_rounds_are_asked_for(place: Place) -> None:
    """Memory is for so many rounds; of those before, the database knows."""
    store = Store(place.database())
    first, tasks = lease(store)
    wanted = report(store, tasks)
    for number in range(2, MOST_ROUNDS + 2):
        with store.transaction() as records:
            records.rounds.put(replace(records.rounds.get(RoundId(number - 1)), state=RoundState.CLOSED))
            round_ = records.rounds.add(round_of(records.jobs.get(first.job_id), number=number))
        later = [task_of(round_, ANNA, name=f"t_{number}")]
        with store.batch() as records:
            records.bulk.add_tasks(later)
        report(store, later)
    assert told(store, first, [])[2] == wanted


def test_the_last_leases_of_a_client_are_known_however_many_it_had(place: Place) -> None:
    store = Store(place.database())
    round_, tasks = lease(store)
    told(store, round_, tasks)
    report(store, tasks)
    for number in range(2, OWN_TASKS + 3):
        with store.batch() as records:
            records.rounds.put(replace(round_, state=RoundState.CLOSED))
            round_ = records.rounds.add(round_of(records.jobs.get(round_.job_id), number=number))
            tasks = [task_of(round_, name, name=f"t_{name}_{number}") for name in NAMES[: 1 + number % 3]]
            records.bulk.add_tasks(tasks)
            records.journal.append_all(task_lines("task_assigned", tasks, at=NOW))
        report(store, tasks)
        assert told(store, round_, tasks) == as_it_is(place, round_, tasks)


def test_a_process_that_works_without_batches_is_not_slowed_down(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory could never be true there, so nobody asks where the journal ends."""
    store = Store(place.database())
    with store.transaction() as records:
        _, round_ = add_job(records, *NAMES)
    with store.batch() as records:
        records.rounds.put(round_)
    monkeypatch.setattr(JournalRows, "last_seq", lambda journal: pytest.fail("the journal was asked"))
    told(store, round_, [])
