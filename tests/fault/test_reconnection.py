"""Ten thousand clients come back after an outage of an hour, on a virtual clock: nobody is trampled."""

from collections import Counter
from math import ceil

import numpy as np
import pytest

from fed_compute.client.api import Idle
from fed_compute.client.backoff import Backoff
from fed_compute.clock import ManualClock
from fed_compute.errors import CoordinatorUnreachable
from fed_compute.ids import ClientId
from fed_compute.rounds.pacing import Demand, lot_of, window_for

CLIENTS = 10_000
DEMAND = Demand(slots=25, leases_per_second=25 / 60)
"""A job that wants twenty updates a minute: nearly everybody asks in vain."""
WINDOW = window_for(CLIENTS, DEMAND, checkins_per_second=50.0)
OUTAGE = 3600.0
END = OUTAGE + WINDOW.end_seconds
IDLE = Idle((WINDOW.start_seconds, WINDOW.end_seconds), "waiting")


class Volunteer:
    """A client that always asks in vain. It learnt its pace before the outage, which begins at 0."""

    def __init__(self, number: int, rng: np.random.Generator, *, draws_itself: bool) -> None:
        self._clock = ManualClock(start=0.0)
        self._backoff = Backoff(self._clock, rng, base=2.0)
        self._backoff.keep_pace(IDLE.gap_seconds)
        self._name = ClientId(f"client-{number}")
        self._rng = rng
        self._draws_itself = draws_itself

    def asks(self, first_wait: float | None) -> list[float]:
        """Return when it asks until the end. Without a first wait its connection breaks when the outage begins."""
        moments = []
        self._clock.advance(self._wait_after_failure() if first_wait is None else first_wait)
        while (now := self._clock.monotonic()) < END:
            moments.append(now)
            self._clock.advance(self._wait_after_failure() if now < OUTAGE else self._wait_for_work())
        return moments

    def _wait_after_failure(self) -> float:
        self._backoff.failed(CoordinatorUnreachable("away", retry_after_seconds=0.0))
        return self._backoff.seconds_left()

    def _wait_for_work(self) -> float:
        self._backoff.succeeded()
        if self._draws_itself:
            return IDLE.draw_seconds(self._rng, otherwise=5.0)
        return ceil(WINDOW.at(lot_of(self._name, now=self._clock.now())))


@pytest.mark.parametrize(
    ("draws_itself", "cut_off_together"),
    [(True, True), (False, False)],
    ids=["all cut off in one moment", "one by one, with clients that only know Retry-After"],
)
def test_after_an_hour_away_no_second_has_more_than_twice_the_mean(draws_itself: bool, cut_off_together: bool) -> None:
    rng, asked = np.random.default_rng(7), Counter[int]()
    for number in range(CLIENTS):
        first_wait = None if cut_off_together else float(rng.uniform(0, WINDOW.start_seconds))
        asked.update(int(moment) for moment in Volunteer(number, rng, draws_itself=draws_itself).asks(first_wait))
    back = [asked[second] for second in range(int(OUTAGE), int(END))]
    assert sum(back) >= CLIENTS, "somebody did not come back"
    assert max(back) <= 2 * sum(back) / len(back)
    long_away = [asked[second] for second in range(int(WINDOW.end_seconds), int(OUTAGE))]
    assert max(long_away) <= 2 * sum(long_away) / len(long_away), "those who tried in vain came in waves"
