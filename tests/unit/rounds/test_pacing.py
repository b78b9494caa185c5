"""When clients without work ask again: no more of them than needed, and never more than can be borne."""

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fed_compute.ids import ClientId
from fed_compute.rounds.pacing import (
    CROWD,
    LONGEST_WIDTH_SECONDS,
    SHORTEST_WIDTH_SECONDS,
    Demand,
    Window,
    lot_of,
    window_for,
)

NUMBERS = st.integers(0, 10**6)
SLOTS = st.integers(1, 1_000)
RATES = st.floats(1e-3, 1e3)


@pytest.mark.parametrize(
    ("num_clients", "demand", "width"),
    [
        (0, Demand(), SHORTEST_WIDTH_SECONDS),
        (3, Demand(13, 13 / 300), SHORTEST_WIDTH_SECONDS),  # a small fleet, however long its rounds are
        (39, Demand(13, 13 / 60), SHORTEST_WIDTH_SECONDS),
        (200, Demand(13, 13 / 60), 200 * 60 / 130),  # a crowd: ten asking for each lease are enough
        (5_000, Demand(13, 13 / 60), LONGEST_WIDTH_SECONDS),
        (10_000, Demand(13, 13 / 60), 200.0),  # what the coordinator bears
        (10_000, Demand(), 200.0),
        (10_000, Demand(9_000, 9_000 / 60), 200.0),
    ],
)
def test_the_width_follows_the_crowd_and_what_the_rounds_want(num_clients: int, demand: Demand, width: float) -> None:
    window = window_for(num_clients, demand, checkins_per_second=50.0)
    assert (window.start_seconds, window.end_seconds) == (pytest.approx(width), pytest.approx(2 * width))


@given(num_clients=NUMBERS, slots=SLOTS, rate=RATES, bearable=RATES)
def test_no_crowd_asks_more_often_than_the_coordinator_bears(
    num_clients: int, slots: int, rate: float, bearable: float
) -> None:
    window = window_for(num_clients, Demand(slots, rate), checkins_per_second=bearable)
    assert num_clients / window.width_seconds <= bearable * (1 + 1e-9)


@given(num_clients=NUMBERS, slots=SLOTS, rate=RATES)
def test_whoever_is_needed_in_a_round_is_not_kept_away_from_it(num_clients: int, slots: int, rate: float) -> None:
    assume(num_clients <= CROWD * slots)
    assert window_for(num_clients, Demand(slots, rate), checkins_per_second=1e9).end_seconds <= 3.0


@given(fewer=NUMBERS, more=NUMBERS, slots=SLOTS, rate=RATES)
def test_more_clients_never_ask_more_often_each(fewer: int, more: int, slots: int, rate: float) -> None:
    fewer, more = min(fewer, more), max(fewer, more)
    widths = [window_for(n, Demand(slots, rate), checkins_per_second=50.0).width_seconds for n in (fewer, more)]
    assert widths[0] <= widths[1]


def test_the_demands_of_jobs_add_up() -> None:
    assert sum([Demand(2, 0.5), Demand(3, 0.25)], Demand()) == Demand(5, 0.75)


@given(lot=st.floats(0, 1), width=st.floats(0.1, 1e4))
def test_a_lot_draws_a_moment_of_the_window(lot: float, width: float) -> None:
    window = Window.of_width(width)
    assert window.start_seconds <= window.at(lot) <= window.end_seconds
    assert window.after(5.0).at(0.0) == 5.0
    assert window.after(5.0).width_seconds == pytest.approx(width)


@pytest.mark.parametrize("now", [0.0, 1_700_000_000.9])
def test_lots_of_one_moment_spread_evenly_over_clients(now: float) -> None:
    """Chi-squared over 100 bins of 10 000 lots; a value above 160 has a probability below 0.0001."""
    bins = Counter(int(100 * lot_of(ClientId(f"client-{number}"), now=now)) for number in range(10_000))
    assert sum((bins[place] - 100) ** 2 / 100 for place in range(100)) < 160


def test_a_lot_is_the_same_when_it_is_drawn_again_and_another_at_another_time() -> None:
    lots = [lot_of(ClientId("anna"), now=now) for now in (10.0, 10.9, 11.0)]
    assert lots[0] == lots[1] != lots[2]
