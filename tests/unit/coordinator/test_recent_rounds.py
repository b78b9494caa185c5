"""What the last rounds tell is read once, and is right whoever ended them and whatever was undone."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event

from fed_compute.coordinator.recent_rounds import RecentRounds
from fed_compute.ids import ClientId, JobId
from fed_compute.rounds.records import Job, RoundState, TaskState
from fed_compute.storage.sql.database import Database
from fed_compute.storage.sql.store import Records, Store
from tests.contract.samples import NOW, add_job, round_of, task_of, update_of
from tests.unit.coordinator.databases import IN_MEMORY, Databases

NAMES = ("anna", "bob")
Ask = Callable[[RecentRounds, Records, JobId], object]


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    database = databases.open(IN_MEMORY)
    yield database
    database.close()


def play(records: Records, job: Job, number: int, *, seconds: float, dropped: int = 0) -> None:
    """End a round in which all clients but so many reported after some time."""
    round_ = records.rounds.live(job.job_id) or records.rounds.add(round_of(job, number=number))
    for place, name in enumerate(NAMES):
        task = task_of(round_, ClientId(name), name=f"t_{round_.round_id}_{name}")
        state = TaskState.EXPIRED if place < dropped else TaskState.REPORTED
        records.tasks.add(replace(task, state=state, ended_at=NOW + seconds))
        if state is TaskState.REPORTED:
            records.updates.add(update_of(task))
    records.rounds.put(replace(round_, state=RoundState.CLOSED, closed_at=NOW))


@pytest.mark.parametrize("ask", [RecentRounds.seconds, RecentRounds.report_fraction])
def test_a_round_is_read_once_it_is_not_the_last_one(database: Database, ask: Ask) -> None:
    store, recent, asked = Store(database), RecentRounds(), list[str]()

    def note(*given: Any) -> None:
        asked.append(given[2])

    with store.transaction() as records:
        job, _ = add_job(records, *NAMES)
        for number in range(1, 9):
            play(records, job, number, seconds=number)
    with store.snapshot() as records:
        wanted = ask(recent, records, job.job_id)
    event.listen(database.engine, "before_cursor_execute", note)
    with store.snapshot() as records:
        assert ask(recent, records, job.job_id) == wanted
    event.remove(database.engine, "before_cursor_execute", note)
    assert len([text for text in asked if "FROM tasks" in text]) == 1


@pytest.mark.parametrize("ask", [RecentRounds.seconds, RecentRounds.report_fraction])
def test_what_is_remembered_is_what_a_process_finds_that_has_just_started(database: Database, ask: Ask) -> None:
    """Another process ends rounds too, and the end of a round may be undone: then it ends again, otherwise."""
    store, recent, found = Store(database), RecentRounds(), list[object]()
    with store.transaction() as records:
        job, _ = add_job(records, *NAMES)

    def end_and_fail(number: int) -> None:
        with store.transaction() as records:
            play(records, job, number, seconds=99, dropped=2)
            ask(recent, records, job.job_id)
            raise RuntimeError("the disk is full")

    for number in range(1, 15):
        with pytest.raises(RuntimeError):
            end_and_fail(number)
        with store.transaction() as records:
            play(records, job, number, seconds=number, dropped=number % 2)
            if number % 3:  # the others are ended by another process
                found.append(ask(recent, records, job.job_id))
                assert found[-1] == ask(RecentRounds(), records, job.job_id)
    assert len(set(map(str, found))) > 1
