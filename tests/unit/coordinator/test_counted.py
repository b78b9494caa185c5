"""What is remembered of counted updates is what the database would say, whoever published meanwhile."""

from collections.abc import Sequence

import pytest

from fed_compute.coordinator import counted
from fed_compute.coordinator.counted import CountedUpdates
from fed_compute.ids import ClientId, RoundId
from fed_compute.learning.aggregation.influence import ESTABLISHED_AFTER
from fed_compute.rounds.records import RoundState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job

CLIENTS = [ClientId(name) for name in ("anna", "bob", "carl", "dora")]


@pytest.fixture
def stand(open_stand: OpenStand) -> Stand:
    """A job whose rounds take 2 updates."""
    stand = open_stand()
    stand.create(tiny_job(total=99, min_updates=2))
    stand.join(*CLIENTS)
    return stand


def hold_round(stand: Stand, number: int) -> Sequence[ClientId]:
    """Let two clients report, most often the first two; return who did."""
    senders = [CLIENTS[number % 2], CLIENTS[3 if number % 5 == 4 else 2 if number % 3 == 2 else 1 - number % 2]]
    for place, name in enumerate(senders):
        assignment = stand.lease(name)
        stand.send(name, assignment, body_for(assignment, 0.1 + (2 * number + place) / 1_000))
    stand.work()
    return senders


def compare(stand: Stand, memory: CountedUpdates, clients: Sequence[ClientId] = CLIENTS) -> dict[ClientId, int]:
    """Ask memory and database before the live round, who must agree; return the answer."""
    job = stand.core.jobs.default()
    with stand.core.store.snapshot() as records:
        live = records.rounds.live(job.job_id)
        assert live is not None
        found = memory.before(records, live, clients)
        wanted = records.updates.counted(job.job_id, clients, limit=ESTABLISHED_AFTER, before=live.round_id)
    assert found == wanted
    return found


@pytest.mark.parametrize("misses", [(), (3, 4), (1, 8, 20), range(30)], ids=str)
def test_memory_agrees_with_the_database_before_every_round(stand: Stand, misses: Sequence[int]) -> None:
    """Versions that another process published are not noted here."""
    memory = CountedUpdates()
    for number in range(18):
        answer = compare(stand, memory, CLIENTS[: 2 + number % 3])
        assert not memory.has_established(stand.core.jobs.default().job_id) or max(answer.values()) >= ESTABLISHED_AFTER
        senders = hold_round(stand, number)
        if number not in misses:
            memory.note(stand.versions()[-1], senders)
    assert compare(stand, memory) == {"anna": 10, "bob": 10, "carl": 5, "dora": 3}


def test_the_database_is_asked_for_no_client_twice(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = CountedUpdates()
    compare(stand, memory)
    senders = hold_round(stand, 0)
    memory.note(stand.versions()[-1], senders)
    with stand.core.store.snapshot() as records:
        live = records.rounds.get(RoundId(2))
        monkeypatch.setattr(type(records.updates), "counted", None)
        assert memory.before(records, live, CLIENTS) == {"anna": 1, "bob": 1, "carl": 0, "dora": 0}


def test_a_round_that_came_to_nothing_counts_for_nobody(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"aggregation": {"server_lr": 1e300}}, min_updates=2))
    stand.join(*CLIENTS)
    hold_round(stand, 0)
    assert stand.rounds()[0].state is RoundState.ABANDONED
    assert set(compare(stand, CountedUpdates()).values()) == {0}


def test_memory_stays_bounded(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "MOST_CLIENTS", 1)
    memory = CountedUpdates()
    for clients in (CLIENTS[:2], CLIENTS[2:], CLIENTS[1:2]):
        compare(stand, memory, clients)
        assert set(memory._jobs[stand.core.jobs.default().job_id].of_client) == set(clients)
