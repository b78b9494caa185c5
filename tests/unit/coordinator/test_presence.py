"""Signs of life: noted at once, written in batches."""

from fed_compute.coordinator.presence import Presence
from fed_compute.ids import ClientId
from fed_compute.rounds.records import RoundState
from tests.unit.coordinator.stand import Stand


def last_seen(stand: Stand, name: str) -> float:
    """Return when a client was last heard of, as it is written."""
    with stand.core.store.snapshot() as records:
        client = records.clients.find(ClientId(name))
    assert client is not None
    return client.last_seen_at


def test_a_sign_of_life_is_written_with_its_own_time(stand: Stand) -> None:
    stand.join("anna", "bob")
    joined_at = stand.clock.now()
    stand.clock.advance(10)
    stand.core.presence.note(ClientId("anna"))
    stand.clock.advance(1)
    assert stand.core.presence.flush()
    assert (last_seen(stand, "anna"), last_seen(stand, "bob")) == (joined_at + 10, joined_at)


def test_of_many_signs_of_life_the_last_one_is_written(stand: Stand) -> None:
    stand.join("anna")
    for _ in range(5):
        stand.clock.advance(1)
        stand.core.presence.note(ClientId("anna"))
    stand.core.presence.flush()
    assert last_seen(stand, "anna") == stand.clock.now()


def test_polls_cost_one_write_in_two_seconds(stand: Stand) -> None:
    stand.join("anna")
    presence, writes = Presence(stand.core.store, stand.clock, flush_seconds=2.0), []
    stand.core.store.on_commit(lambda: writes.append(stand.clock.now()))
    for _ in range(20):
        presence.note(ClientId("anna"))
        presence.flush()
        stand.clock.advance(0.5)
    assert len(writes) == 5


def test_without_a_sign_of_life_nothing_is_written(stand: Stand) -> None:
    writes: list[float] = []
    stand.core.store.on_commit(lambda: writes.append(stand.clock.now()))
    assert not stand.core.presence.flush()
    stand.clock.advance(1_000)
    assert not stand.core.presence.flush()
    assert writes == []


def test_what_was_noted_waits_for_its_time_and_is_not_lost(stand: Stand) -> None:
    stand.join("anna")
    stand.core.presence.note(ClientId("anna"))
    assert stand.core.presence.flush()
    stand.clock.advance(1)
    stand.core.presence.note(ClientId("anna"))
    assert not stand.core.presence.flush()
    stand.clock.advance(1)
    assert stand.core.presence.flush()
    assert last_seen(stand, "anna") == stand.clock.now() - 1


def test_a_sign_of_life_is_written_once(stand: Stand) -> None:
    stand.join("anna")
    stand.core.presence.note(ClientId("anna"))
    assert stand.core.presence.flush()
    stand.clock.advance(1_000)
    assert not stand.core.presence.flush()


def test_a_clock_that_was_set_back_does_not_stop_the_writing(stand: Stand) -> None:
    stand.join("anna")
    stand.core.presence.note(ClientId("anna"))
    stand.core.presence.flush()
    stand.clock.jump(-3600)
    stand.clock.advance(5)
    stand.core.presence.note(ClientId("anna"))
    assert stand.core.presence.flush()


def test_a_stranger_leaves_no_trace(stand: Stand) -> None:
    stand.core.presence.note(ClientId("stranger"))
    stand.core.presence.flush()
    with stand.core.store.snapshot() as records:
        assert records.clients.all() == []


def test_a_round_waits_for_a_client_that_is_still_heard_of(stand: Stand) -> None:
    stand.join("anna", "bob")
    stand.report("anna")
    for _ in range(3):
        stand.clock.advance(30)
        for name in ("anna", "bob"):
            stand.core.presence.note(ClientId(name))
        stand.work()
    assert stand.round().state is RoundState.COLLECTING
