"""The window of the day in which a machine may work."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.hours import Hours, parse_hours

TIMES = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31))
WINDOWS = st.tuples(st.integers(0, 1439), st.integers(1, 1440)).filter(lambda w: w[0] != w[1] % 1440 or w == (0, 1440))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("22-6", ["22:00", "23:59", "00:00", "05:59"], ["06:00", "12:00", "21:59"]),
        ("8:30-17", ["08:30", "16:59"], ["08:29", "17:00", "00:00"]),
        ("0-24", ["00:00", "23:59"], []),
        ("22-24", ["22:00", "23:59"], ["00:00"]),
        ("22-0", ["22:00", "23:59"], ["00:00"]),
        (" 0 - 6:05 ", ["00:00", "06:04"], ["06:05"]),
    ],
)
def test_a_window_holds_its_first_minute_and_not_its_last(text: str, inside: list[str], outside: list[str]) -> None:
    hours = parse_hours(text)
    assert [at for at in inside if not hours.contains(datetime.fromisoformat(f"2026-03-02T{at}"))] == []
    assert [at for at in outside if hours.contains(datetime.fromisoformat(f"2026-03-02T{at}"))] == []


@pytest.mark.parametrize(
    "text", ["", "22", "22-", "22-6-7", "25-6", "22-24:01", "8:60-9", "8-8", "0-0", "24-0", "a-b", "-1-5"]
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"wanted FROM-TO|same time"):
        parse_hours(text)


@given(WINDOWS, TIMES)
def test_after_the_wait_the_window_is_open_and_not_a_second_before(window: tuple[int, int], local: datetime) -> None:
    hours = Hours(*window)
    wait = hours.seconds_until_open(local)
    assert 0 <= wait <= 24 * 3600
    assert (wait == 0) == hours.contains(local)
    assert hours.contains(local + timedelta(seconds=wait))
    if wait > 1:
        assert not hours.contains(local + timedelta(seconds=wait - 1))


@given(WINDOWS)
def test_a_window_is_read_as_it_is_written(window: tuple[int, int]) -> None:
    assert parse_hours(str(Hours(*window))) == Hours(*window)
