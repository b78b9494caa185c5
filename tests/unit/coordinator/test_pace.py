"""Clients without work are sent away for as long as there are too many of them, across outages too."""

import heapq

import pytest

from fed_compute.coordinator.openings import num_openings
from fed_compute.coordinator.task_assigner import Assignment, NothingToDo
from fed_compute.ids import ClientId
from fed_compute.rounds.pacing import Window
from fed_compute.rounds.quota import DAY_SECONDS
from fed_compute.rounds.records import TaskState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job

CROWD = [f"client-{number}" for number in range(40)]


def window_of(stand: Stand, name: str) -> Window:
    """Ask in vain; return when to ask again."""
    found = stand.ask(name)
    assert isinstance(found, NothingToDo), found
    assert found.window.start_seconds <= found.retry_after_seconds <= found.window.end_seconds
    return found.window


def see(stand: Stand, *names: str) -> None:
    """Let clients be heard of now."""
    with stand.core.store.transaction() as records:
        records.clients.mark_seen({ClientId(name): stand.clock.now() for name in names})


@pytest.fixture
def crowded(open_stand: OpenStand) -> Stand:
    """Forty clients at a coordinator that bears one in four seconds, and a job of two slots, both taken."""
    stand = open_stand(checkins_per_second=0.25)
    stand.create(tiny_job(target_updates=2, over_selection=1, deadline_seconds=100_000))
    stand.join(*CROWD, "anna", "bob")
    for name in ("anna", "bob"):
        stand.lease(name, heartbeats=False)
    return stand


def test_a_crowd_is_spread_over_what_the_coordinator_bears(crowded: Stand) -> None:
    assert window_of(crowded, CROWD[0]) == Window(168.0, 336.0)


def test_those_of_the_last_hour_are_the_crowd(crowded: Stand) -> None:
    crowded.clock.advance(3600)
    see(crowded, *CROWD[:36])
    crowded.clock.advance(10)
    assert window_of(crowded, CROWD[0]).width_seconds == 144.0


def test_after_an_outage_the_crowd_is_as_large_as_before_it(crowded: Stand) -> None:
    """Else the first who come back would be told to come again at once, all of them."""
    crowded.clock.advance(100_000)
    crowded.core.tasks.revive_leases()
    see(crowded, *CROWD[:2])
    crowded.work()
    crowded.join("newcomer")
    taken = [crowded.lease(name, heartbeats=False) for name in CROWD[:2]]
    assert len(taken) == 2
    assert window_of(crowded, "newcomer").width_seconds == 43 / 0.25
    crowded.clock.advance(3601)
    see(crowded, "newcomer")
    assert window_of(crowded, "newcomer").width_seconds == 4.0, "an hour later only those count who came back"


def test_many_questions_look_at_the_crowd_once(crowded: Stand) -> None:
    before = window_of(crowded, CROWD[0])
    see(crowded, *CROWD)
    crowded.join("newcomer")
    assert window_of(crowded, CROWD[1]) == before
    crowded.clock.advance(5)
    assert window_of(crowded, CROWD[1]).width_seconds == 172.0


def test_whoever_used_up_its_quota_comes_when_that_ends_but_not_all_in_one_moment(open_stand: OpenStand) -> None:
    stand = open_stand(checkins_per_second=0.5, newcomer_quota=1)
    stand.create(tiny_job(target_updates=1, over_selection=1))
    stand.join(*CROWD)
    given_up = stand.lease(CROWD[0])
    stand.clock.advance(31)
    stand.work()
    assert stand.task(given_up).state is TaskState.EXPIRED
    until_midnight = DAY_SECONDS - stand.clock.now() % DAY_SECONDS
    assert window_of(stand, CROWD[0]) == Window(3600.0, 3720.0)
    stand.clock.advance(until_midnight - 100)
    see(stand, *CROWD)
    assert window_of(stand, CROWD[0]) == Window(pytest.approx(100.0), pytest.approx(220.0))


def test_a_client_that_is_sent_away_without_a_look_gets_the_last_window(crowded: Stand) -> None:
    window = window_of(crowded, CROWD[0])
    assert crowded.core.tasks.nothing_yet(ClientId(CROWD[1])).window == window


def test_three_clients_meet_in_the_next_round_within_seconds(open_stand: OpenStand) -> None:
    """Plain HTTP clients that do what Retry-After says, no long poll; training takes them 2, 5 and 11 s."""
    stand = open_stand()
    stand.create(tiny_job(target_updates=3, min_updates=3, over_selection=1, deadline_seconds=600, total=4))
    took = {"anna": 2.0, "bob": 5.0, "carl": 11.0}
    stand.join(*took)
    acts: list[tuple[float, str, Assignment | None]] = [(0.0, name, None) for name in took]
    start, leased = stand.clock.now(), dict[int, list[float]]()
    while acts and len(stand.rounds()) < 4:
        at, name, lease = heapq.heappop(acts)
        stand.clock.advance(max(0.0, at - (stand.clock.now() - start)))
        if lease is not None:
            stand.send(name, lease, body_for(lease))
            stand.work()
            heapq.heappush(acts, (at + 0.001, name, None))
            continue
        see(stand, name)
        match stand.ask(name):
            case Assignment() as found:
                leased.setdefault(found.task.round_id, []).append(at)
                heapq.heappush(acts, (at + took[name], name, found))
            case NothingToDo(retry_after_seconds=seconds):
                heapq.heappush(acts, (at + seconds, name, None))
    assert [len(moments) for moments in leased.values()] == [3] * 3
    for moments in leased.values():
        assert max(moments) - min(moments) <= 3.0


def test_openings_are_the_work_that_could_be_handed_out(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(target_updates=2, over_selection=1, sections={"evaluation": {"max_clients": 5}}))

    def openings() -> int:
        return num_openings(stand.core.store, now=stand.clock.now())

    assert openings() == 2
    stand.join("anna", "bob", "carl")
    leases = [stand.lease(name) for name in ("anna", "bob")]
    assert openings() == 0
    stand.core.tasks.release(ClientId("bob"), leases[1].task.task_id)
    assert openings() == 1
    stand.send("anna", leases[0], body_for(leases[0]))
    assert openings() == 1
    stand.report("bob")
    assert openings() == 0  # the round is being aggregated
    stand.work()
    assert openings() == 2 + 5  # the next round, and measuring the new version
    stand.clock.advance(1)
    assert stand.lease("carl").task.kind == "evaluate"
    assert openings() == 2 + 4
