"""Sliding windows of counts, by a clock that the test moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.clock import ManualClock
from fed_compute.coordinator.rate_windows import (
    PURGE_SECONDS,
    LocalWindows,
    WindowState,
    seconds_of_window,
    seconds_to_wait,
    weighted,
)

WINDOW = 60
pauses = st.lists(st.tuples(st.floats(0, 90), st.integers(1, 7)), min_size=1, max_size=40)


def counts(windows: LocalWindows) -> WindowState:
    return windows.get_sliding_window("anna", WINDOW)


def take(windows: LocalWindows, amount: int = 1, *, limit: int = 10) -> bool:
    return windows.acquire_sliding_window_entry("anna", limit, WINDOW, amount)


@given(steps=pauses, limit=st.integers(1, 12))
def test_a_refusal_says_exactly_how_long_to_wait(steps: list[tuple[float, int]], limit: int) -> None:
    """Whoever comes a moment before is refused, whoever comes a moment after is let in."""
    clock = ManualClock()
    windows = LocalWindows(clock.monotonic)
    for pause, amount in steps:
        clock.advance(pause)
        cost = min(amount, limit)
        if take(windows, cost, limit=limit):
            continue
        wait = seconds_to_wait(counts(windows), limit=limit, cost=cost, window_seconds=WINDOW)
        if wait > 1e-3:
            clock.advance(wait - 1e-3)
            assert not take(windows, cost, limit=limit)
            clock.advance(1e-3)
        clock.advance(1e-3)
        assert take(windows, cost, limit=limit)


@given(steps=pauses, limit=st.integers(1, 12))
def test_never_more_than_the_limit_counts(steps: list[tuple[float, int]], limit: int) -> None:
    clock = ManualClock()
    windows = LocalWindows(clock.monotonic)
    for pause, amount in steps:
        clock.advance(pause)
        before = weighted(counts(windows), WINDOW)
        taken = take(windows, amount, limit=limit)
        assert weighted(counts(windows), WINDOW) == before + (amount if taken else 0) <= max(limit, before)


@given(steps=pauses, limit=st.integers(1, 12))
def test_two_windows_in_a_row_never_take_more_than_twice_the_limit(steps: list[tuple[float, int]], limit: int) -> None:
    clock = ManualClock()
    windows, taken = LocalWindows(clock.monotonic), list[tuple[float, int]]()
    for pause, amount in steps:
        clock.advance(pause)
        if take(windows, amount, limit=limit):
            taken.append((clock.monotonic(), amount))
    for start, _ in taken:
        assert sum(amount for at, amount in taken if start <= at < start + WINDOW) <= 2 * limit


def test_a_burst_at_the_end_of_a_window_still_counts_at_the_start_of_the_next() -> None:
    """Counting by the clock's minute would let twice the limit pass within two seconds."""
    clock = ManualClock()
    windows = LocalWindows(clock.monotonic)
    assert take(windows)
    clock.advance(59)
    assert take(windows, 9)
    clock.advance(2)
    assert not take(windows, 2)
    assert take(windows)


def test_what_is_two_windows_old_is_forgotten() -> None:
    clock = ManualClock()
    windows = LocalWindows(clock.monotonic)
    take(windows, 10)
    clock.advance(2 * WINDOW)
    assert counts(windows) == (0, 0.0, 0, 0.0)
    assert take(windows, 10)


def test_memory_is_given_back_for_those_who_stay_away() -> None:
    clock = ManualClock()
    windows = LocalWindows(clock.monotonic)
    for number in range(1000):
        windows.acquire_sliding_window_entry(f"stranger-{number}", 1, WINDOW)
    assert len(windows) == 1000
    clock.advance(2 * WINDOW + PURGE_SECONDS)
    take(windows)
    assert len(windows) == 1


def test_looking_counts_nothing() -> None:
    windows = LocalWindows(ManualClock().monotonic)
    for _ in range(5):
        counts(windows)
    assert len(windows) == 0


@pytest.mark.parametrize(
    ("state", "limit", "cost", "wait"),
    [
        ((0, 0.0, 0, 0.0), 5, 1, 0.0),
        ((0, 0.0, 5, 90.0), 5, 1, 30.0),  # the present window ends in 30 s
        ((0, 0.0, 5, 90.0), 5, 5, 30.0 + 60 * 4 / 5),  # and four fifths of it have to go by
        ((10, 30.0, 0, 90.0), 5, 1, 0.0 + 30 - 5 * 60 / 10),  # half of the window before counts: exactly full
        ((10, 48.0, 0, 108.0), 5, 1, 48 - 5 * 60 / 10),
    ],
)
def test_waits_worked_out_by_hand(state: WindowState, limit: int, cost: int, wait: float) -> None:
    assert seconds_to_wait(state, limit=limit, cost=cost, window_seconds=WINDOW) == pytest.approx(wait)


def test_the_present_window_lasts_until_its_end_and_a_new_one_in_full() -> None:
    assert seconds_of_window((0, 0.0, 1, 75.0), WINDOW) == 15.0
    assert seconds_of_window((0, 0.0, 0, 0.0), WINDOW) == 60.0
