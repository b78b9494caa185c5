"""One counter for one coordinator, and waits that spread a crowd evenly."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.backoff import LONGEST_WINDOW_SECONDS, Backoff
from fed_compute.clock import ManualClock
from fed_compute.errors import CoordinatorBusy, CoordinatorUnreachable, NotNow


class Loaded(np.random.Generator):
    """Chance that always throws the same."""

    def __init__(self, chance: float) -> None:
        super().__init__(np.random.PCG64(0))
        self._chance = chance

    def random(self) -> float:
        return self._chance


def unreachable() -> NotNow:
    return CoordinatorUnreachable("nobody answers", retry_after_seconds=0.0)


def busy(seconds: float) -> NotNow:
    return CoordinatorBusy("too much to do", retry_after_seconds=seconds)


def moments(backoff: Backoff, clock: ManualClock, count: int) -> list[float]:
    """Let a call fail again and again; return when it was made."""
    found = []
    for _ in range(count):
        backoff.failed(unreachable())
        clock.advance(backoff.seconds_left())
        found.append(clock.monotonic())
    return found


def test_windows_double_up_to_the_longest_and_follow_each_other() -> None:
    ends = np.cumsum([2, 4, 8, 16, 32, 60, 60])
    clock = ManualClock()
    assert moments(Backoff(clock, Loaded(1.0), base=2.0), clock, 7) == pytest.approx(ends)
    clock = ManualClock()
    assert moments(Backoff(clock, Loaded(0.0), base=2.0), clock, 7) == pytest.approx([0, *ends[:-1]])


@given(seed=st.integers(0, 2**32), base=st.floats(0.01, 100))
def test_there_is_one_try_in_each_window_whatever_chance_says(seed: int, base: float) -> None:
    clock = ManualClock()
    tries = moments(Backoff(clock, np.random.default_rng(seed), base=base), clock, 12)
    windows = [min(max(LONGEST_WINDOW_SECONDS, base), base * 2**n) for n in range(12)]
    ends = [0.0, *np.cumsum(windows)]
    for moment, (start, end) in zip(tries, pairwise(ends), strict=True):
        assert start - 1e-6 <= moment <= end + 1e-6


def test_an_answer_ends_the_row_of_failures() -> None:
    clock = ManualClock()
    backoff = Backoff(clock, Loaded(1.0), base=2.0)
    moments(backoff, clock, 5)
    backoff.succeeded()
    backoff.failed(unreachable())
    assert backoff.seconds_left() == 2


def test_a_failure_counts_once_however_many_hands_it_goes_through() -> None:
    """The call that failed tells it, and so does whoever made the call."""
    backoff, error = Backoff(ManualClock(), Loaded(1.0), base=2.0), unreachable()
    for _ in range(3):
        backoff.failed(error)
    assert backoff.seconds_left() == 2


@given(told=st.floats(0, 86_400), chance=st.floats(0, 1))
def test_no_wait_is_shorter_than_what_the_coordinator_told(told: float, chance: float) -> None:
    backoff = Backoff(ManualClock(), Loaded(chance), base=2.0)
    backoff.failed(busy(told))
    assert told <= backoff.seconds_left() <= max(2.0, told * 1.2)


def test_a_coordinator_with_a_crowd_has_the_first_retry_spread_over_its_window() -> None:
    """All of them lost it at the same moment; it may be back in a second."""
    backoff = Backoff(ManualClock(), Loaded(0.5), base=2.0)
    backoff.keep_pace(300.0)
    backoff.failed(unreachable())
    assert backoff.seconds_left() == 150
