"""Which part of a file is asked for, and whether the client has it already."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import RangeNotSatisfiable
from fed_compute.server.ranges import Span, accepts, is_known, requested_span

ETAG = '"abc"'
SIZES = st.integers(min_value=1, max_value=10_000)
PLACES = st.integers(min_value=0, max_value=20_000)


@given(SIZES, PLACES, PLACES)
def test_a_range_is_cut_at_the_end_and_refused_beyond_it(size: int, first: int, last: int) -> None:
    headers = {"range": f"bytes={first}-{last}"}
    if last < first:
        assert requested_span(headers, size=size, etag=ETAG) is None
    elif first >= size:
        with pytest.raises(RangeNotSatisfiable):
            requested_span(headers, size=size, etag=ETAG)
    else:
        assert requested_span(headers, size=size, etag=ETAG) == Span(first, min(last + 1, size))


@given(SIZES, st.integers(min_value=1, max_value=20_000))
def test_a_suffix_is_the_end_of_the_file(size: int, length: int) -> None:
    found = requested_span({"range": f"bytes=-{length}"}, size=size, etag=ETAG)
    assert found == Span(max(0, size - length), size)


@given(st.text(max_size=30), SIZES)
def test_no_header_can_name_bytes_outside_the_file(text: str, size: int) -> None:
    try:
        found = requested_span({"range": f"bytes={text}"}, size=size, etag=ETAG)
    except RangeNotSatisfiable:
        return
    assert found is None or 0 <= found.start < found.end <= size


def test_a_range_of_other_content_is_the_whole_file() -> None:
    headers = {"range": "bytes=0-1", "if-range": '"other"'}
    assert requested_span(headers, size=10, etag=ETAG) is None
    assert requested_span({**headers, "if-range": ETAG}, size=10, etag=ETAG) == Span(0, 2)


@pytest.mark.parametrize(
    ("header", "known"),
    [(None, False), (ETAG, True), (f"W/{ETAG}", True), (f'"x", {ETAG}', True), ("*", True), ('"x"', False)],
)
def test_a_client_says_which_content_it_has(header: str | None, known: bool) -> None:
    assert is_known(header, ETAG) is known


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, False),
        ("*/*", False),
        ("text/plain", True),
        ("TEXT/Plain; version=0.0.4", True),
        ("application/json, text/plain;q=0.5", True),
        ("text/plain;q=0", False),
        ("text/plain;q=0.0", False),
        ("text/plainer", False),
    ],
)
def test_only_a_type_that_is_named_is_accepted(header: str | None, wanted: bool) -> None:
    assert accepts(header, "text/plain") is wanted
