"""How a round went in time."""

import pytest

from fed_compute.coordinator.async_round_manager import Arrival
from fed_compute.errors import LeaseExpired, RoundNotFound, RoundOver
from fed_compute.ids import ClientId, RoundId
from fed_compute.rounds.records import RoundMode, RoundState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job

FIRST = RoundId(1)


@pytest.fixture
def buffered(open_stand: OpenStand) -> Stand:
    """A coordinator whose job takes two updates a round, or what has come after 100 seconds."""
    stand = open_stand()
    stand.create(tiny_job(mode="async", min_updates=2, target_updates=5))
    stand.join("anna", "bob", "carl")
    return stand


def test_a_round_that_nobody_works_on_has_not_begun(buffered: Stand) -> None:
    buffered.clock.advance(1_000)
    stats = buffered.core.async_rounds.stats(FIRST)
    assert (stats.elapsed_seconds, stats.arrivals, stats.stragglers) == (None, [], [])
    assert not stats.min_updates_reached
    assert not stats.max_duration_reached


def test_each_arrival_is_told_with_the_time_since_its_lease(buffered: Stand) -> None:
    leases = {name: buffered.lease(name) for name in ("anna", "bob")}
    for name, seconds in (("bob", 3), ("anna", 4)):
        buffered.clock.advance(seconds)
        buffered.send(name, leases[name], body_for(leases[name]))
    stats = buffered.core.async_rounds.stats(FIRST)
    assert stats.arrivals == [Arrival(ClientId("bob"), 3, 0), Arrival(ClientId("anna"), 7, 0)]
    assert (stats.min_updates_reached, stats.elapsed_seconds) == (True, 7)


def test_whoever_comes_too_late_is_a_straggler(buffered: Stand) -> None:
    slow = buffered.lease("carl")
    for name in ("anna", "bob"):
        buffered.report(name)
    buffered.work()
    buffered.clock.advance(12)
    with pytest.raises(RoundOver):
        buffered.send("carl", slow, body_for(slow))
    stats = buffered.core.async_rounds.stats(FIRST)
    assert stats.stragglers == [Arrival(ClientId("carl"), 12)]
    assert len(stats.arrivals) == 2


def test_a_lease_that_ran_out_makes_a_straggler_while_the_round_goes_on(buffered: Stand) -> None:
    slow = buffered.lease("carl")
    buffered.clock.advance(31)
    buffered.work()
    with pytest.raises(LeaseExpired):
        buffered.send("carl", slow, body_for(slow))
    assert [arrival.client_id for arrival in buffered.core.async_rounds.stats(FIRST).stragglers] == ["carl"]


def test_time_stops_when_the_round_ends(buffered: Stand) -> None:
    for name in ("anna", "bob"):
        buffered.report(name)
        buffered.clock.advance(5)
    buffered.work()
    buffered.clock.advance(1_000)
    stats = buffered.core.async_rounds.stats(FIRST)
    assert (stats.round.state, stats.round.mode) == (RoundState.CLOSED, RoundMode.ASYNC)
    assert stats.elapsed_seconds == 10
    assert not stats.max_duration_reached


def test_a_round_of_its_longest_duration_says_so(buffered: Stand) -> None:
    buffered.report("anna")
    buffered.clock.advance(100)
    assert buffered.core.async_rounds.stats(FIRST).max_duration_reached
    buffered.work()
    stats = buffered.core.async_rounds.stats(FIRST)
    assert (stats.round.state, stats.max_duration_reached, stats.min_updates_reached) == ("CLOSED", True, False)


def test_synchronous_rounds_have_a_timing_too(stand: Stand) -> None:
    stand.join("anna")
    stand.report("anna")
    stats = stand.core.async_rounds.stats(FIRST)
    assert (stats.round.mode, stats.arrivals) == (RoundMode.SYNC, [Arrival(ClientId("anna"), 0, 0)])


def test_a_round_that_does_not_exist_has_no_timing(stand: Stand) -> None:
    with pytest.raises(RoundNotFound):
        stand.core.async_rounds.stats(RoundId(9))
