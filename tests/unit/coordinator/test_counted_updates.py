"""How many updates of a client were counted is right whoever closed a round, and whatever was undone."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from fed_compute.coordinator.counted_updates import CountedUpdates
from fed_compute.ids import ClientId
from fed_compute.learning.aggregation.influence import ESTABLISHED_AFTER
from fed_compute.rounds.records import Job, Round, RoundState, TaskState
from fed_compute.storage.sql.store import Records, Store
from tests.contract.samples import NOW, add_job, round_of, task_of, update_of
from tests.unit.coordinator.databases import IN_MEMORY, Databases

ANNA, BOB, CARL = (ClientId(name) for name in ("anna", "bob", "carl"))
TURNS = ((ANNA, BOB), (ANNA, CARL), (BOB, CARL), (ANNA,))


@pytest.fixture
def store(databases: Databases) -> Iterator[Store]:
    database = databases.open(IN_MEMORY)
    yield Store(database)
    database.close()


def report(records: Records, job: Job, number: int) -> tuple[Round, tuple[ClientId, ...]]:
    """Let the clients whose turn it is report in the job's live round."""
    round_ = records.rounds.live(job.job_id) or records.rounds.add(round_of(job, number=number))
    clients = TURNS[number % len(TURNS)]
    for client_id in clients:
        task = task_of(round_, client_id, name=f"t_{round_.round_id}_{client_id}")
        records.tasks.add(replace(task, state=TaskState.REPORTED, ended_at=NOW))
        records.updates.add(update_of(task))
    return round_, clients


def end(records: Records, round_: Round, state: RoundState) -> None:
    records.rounds.put(replace(round_, state=state, closed_at=NOW))


@pytest.mark.parametrize("is_ours", [lambda number: True, lambda number: number % 5 != 3])
@pytest.mark.parametrize("is_usable", [lambda number: True, lambda number: number % 7 != 4])
def test_counts_are_those_of_a_process_that_has_just_started(
    store: Store, is_ours: Callable[[int], bool], is_usable: Callable[[int], bool]
) -> None:
    """Other processes close rounds too, and some rounds come to nothing."""
    counted = CountedUpdates()
    with store.transaction() as records:
        job, _ = add_job(records, ANNA, BOB, CARL)
    for number in range(1, 3 * ESTABLISHED_AFTER):
        with store.transaction() as records:
            round_, clients = report(records, job, number)
            if is_ours(number):
                found = counted.before(records, round_, clients)
                assert found == CountedUpdates().before(records, round_, clients)
            end(records, round_, RoundState.CLOSED if is_usable(number) else RoundState.ABANDONED)
        if is_ours(number) and is_usable(number):
            counted.add(round_, clients)
    assert set(found.values()) == {ESTABLISHED_AFTER}


def test_a_client_that_is_known_is_not_asked_about_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, asked = CountedUpdates(), list[ClientId]()
    with store.transaction() as records:
        job, _ = add_job(records, ANNA, BOB, CARL)
        ask = records.updates.counted
        monkeypatch.setattr(records.updates, "counted", lambda job_id, clients, **how: note(job_id, clients, **how))

        def note(job_id: int, clients: list[ClientId], **how: int) -> object:
            asked.extend(clients)
            return ask(job.job_id, clients, limit=how["limit"])

        for number in range(1, 9):
            round_, clients = report(records, job, number)
            counted.before(records, round_, clients)
            end(records, round_, RoundState.CLOSED)
            counted.add(round_, clients)
    assert sorted(asked) == [ANNA, BOB, CARL]
