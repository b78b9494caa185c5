"""The window of an answer without work, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.protocol.retry_window import LONGEST_SECONDS, read_retry_window, write_retry_window

SECONDS = st.floats(0, LONGEST_SECONDS)


@given(start=SECONDS, width=SECONDS)
def test_what_is_written_is_read_to_the_millisecond(start: float, width: float) -> None:
    end = min(start + width, LONGEST_SECONDS)
    assert read_retry_window(write_retry_window(start, end)) == pytest.approx((start, end), abs=0.0006)


@given(text=st.text())
def test_no_text_of_a_stranger_gives_an_impossible_window(text: str) -> None:
    window = read_retry_window(text)
    assert window is None or 0 <= window[0] <= window[1] <= LONGEST_SECONDS
