"""News between threads: no ring is missed."""

import threading

import pytest

from fed_compute.coordinator.bell import Bell
from fed_compute.errors import ClientNameTaken
from tests.unit.coordinator.stand import Stand

LONG = 30.0
"""Far longer than any test: a wait of this length must be ended by a ring."""


def test_a_ring_before_the_wait_is_not_missed() -> None:
    bell = Bell()
    seen = bell.rings()
    bell.ring()
    assert bell.wait(seen, timeout_seconds=LONG) == seen + 1


def test_a_ring_wakes_everybody_who_waits() -> None:
    bell, woken = Bell(), []
    threads = [threading.Thread(target=lambda: woken.append(bell.wait(0, timeout_seconds=LONG))) for _ in range(3)]
    for thread in threads:
        thread.start()
    bell.ring()
    for thread in threads:
        thread.join(LONG)
    assert woken == [1, 1, 1]


def test_without_a_ring_the_wait_ends_at_its_time_out() -> None:
    bell = Bell()
    assert bell.wait(bell.rings(), timeout_seconds=0.001) == 0


def test_every_commit_rings_and_a_transaction_that_failed_does_not(stand: Stand) -> None:
    before = stand.core.bell.rings()
    stand.join("anna")
    assert stand.core.bell.rings() == before + 1
    with pytest.raises(ClientNameTaken):
        stand.join("anna")
    assert stand.core.bell.rings() == before + 1
