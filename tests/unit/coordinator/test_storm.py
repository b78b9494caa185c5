"""Ten thousand clients after an hour without a coordinator: the policies of both sides, and no real time.

A client is its real `Backoff` and its real draw from the window. The coordinator is the real one, with
its `Pace` and its presence on record; only its questions to the records are saved, as it saves them
itself. Requests are counted where they arrive, from the coordinator's return on.
"""

import heapq
from collections import Counter

import numpy as np
import pytest

from fed_compute.client.api import Idle
from fed_compute.client.backoff import Backoff
from fed_compute.client.client import LONG_POLL_SECONDS
from fed_compute.coordinator.pace import LOOK_SECONDS
from fed_compute.errors import CoordinatorUnreachable
from fed_compute.ids import ClientId
from fed_compute.protocol.retry_window import read_retry_window, write_retry_window
from fed_compute.rounds.records import Client
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, tiny_job

CLIENTS = 10_000
OUTAGE_SECONDS = 3600.0
BEFORE_SECONDS, AFTER_SECONDS = 400.0, 600.0


class Storm:
    """Clients without work, each of which polls, is sent away and comes again, and a coordinator that goes and comes.

    `arrivals` holds the moment of each request that found the coordinator, in seconds from the start.
    """

    def __init__(self, stand: Stand, names: list[str], *, outage: tuple[float, float]) -> None:
        self._stand, self._names, self._outage = stand, names, outage
        self._start, self._looked_at = stand.clock.now(), float("-inf")
        self._chances = np.random.default_rng(7).spawn(len(names))
        self._backoffs = [Backoff(stand.clock, rng, base=2.0) for rng in self._chances]
        self.arrivals: list[float] = []

    def run(self, *, seconds: float) -> None:
        """Let so many seconds pass."""
        acts = [(float(rng.uniform(0, 300)), number, False) for number, rng in enumerate(self._chances)]
        heapq.heapify(acts)
        is_back = False
        while acts[0][0] < seconds:
            at, number, is_polling = heapq.heappop(acts)
            if at >= self._outage[1] and not is_back:
                is_back = True
                self._advance(self._outage[1])
                self._stand.core.tasks.revive_leases()
            self._advance(at)
            heapq.heappush(acts, self._next(at, number, is_polling=is_polling))

    def _next(self, at: float, number: int, *, is_polling: bool) -> tuple[float, int, bool]:
        """Return the client's next act: when, and whether it is the end of a long poll."""
        gone, back = self._outage
        if gone <= at < back:
            self._backoffs[number].failed(CoordinatorUnreachable("nobody answers", retry_after_seconds=0.0))
            return at + self._backoffs[number].seconds_left(), number, False
        if not is_polling:
            self.arrivals.append(at)
            self._stand.core.presence.note(ClientId(self._names[number]))
            answered_at = at + LONG_POLL_SECONDS
            return (gone if at < gone <= answered_at else answered_at), number, True
        idle = self._answer(number)
        self._backoffs[number].succeeded()
        self._backoffs[number].keep_pace(idle.gap_seconds)
        return at + idle.draw_seconds(self._chances[number], otherwise=5.0), number, False

    def _answer(self, number: int) -> Idle:
        """Look at the records as often as the coordinator does to find the window anew; it keeps it in between."""
        clock, tasks, name = self._stand.clock, self._stand.core.tasks, ClientId(self._names[number])
        if clock.monotonic() - self._looked_at >= LOOK_SECONDS:
            self._looked_at = clock.monotonic()
            self._stand.core.presence.flush()
            self._stand.ask(name)
        window = tasks.nothing_yet(name).window
        return Idle(read_retry_window(write_retry_window(window.start_seconds, window.end_seconds)), "waiting")

    def _advance(self, at: float) -> None:
        self._stand.clock.advance(max(0.0, self._start + at - self._stand.clock.now()))


def crowd(stand: Stand, count: int) -> list[str]:
    """Write clients into the records who were heard of just now."""
    names, now = [f"client-{number}" for number in range(count)], stand.clock.now()
    with stand.core.store.transaction() as records:
        for name in names:
            records.clients.add(Client(ClientId(name), "", registered_at=now, last_seen_at=now))
    return names


def peak_over_mean(moments: list[float], *, bucket_seconds: float, buckets: int) -> float:
    counts = Counter(int(moment // bucket_seconds) for moment in moments)
    return max(counts.values()) / (sum(counts.values()) / buckets)


@pytest.fixture
def stormy(open_stand: OpenStand) -> Stand:
    """A coordinator as it is without settings, and a job of two slots, both taken for as long as the test lasts."""
    stand = open_stand()
    stand.create(tiny_job(target_updates=2, over_selection=1, deadline_seconds=100_000))
    stand.join("anna", "bob")
    for name in ("anna", "bob"):
        stand.lease(name, heartbeats=False)
    return stand


def test_ten_thousand_clients_after_an_hours_outage_come_no_faster_than_twice_their_mean(stormy: Stand) -> None:
    """In buckets of one second, over the ten minutes from the coordinator's return, its first second included."""
    back = BEFORE_SECONDS + OUTAGE_SECONDS
    storm = Storm(stormy, crowd(stormy, CLIENTS), outage=(BEFORE_SECONDS, back))
    storm.run(seconds=back + AFTER_SECONDS)
    after = [moment - back for moment in storm.arrivals if moment >= back]
    assert len(after) > CLIENTS
    assert peak_over_mean(after, bucket_seconds=1.0, buckets=int(AFTER_SECONDS)) <= 2.0
    stormy.core.presence.flush()
    with stormy.core.store.snapshot() as records:
        assert records.clients.count(seen_since=stormy.clock.now() - AFTER_SECONDS) == CLIENTS, "all came back"
