"""Bodies are read up to a limit and no further, whatever their sender claims."""

import asyncio
from typing import Any

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import BodyStalled, BodyTooLarge, RequestInvalid
from fed_compute.protocol.messages import RegisterRequest
from fed_compute.server import bodies
from fed_compute.server.bodies import parse_json, read_body


def request_of(pieces: list[bytes], *, breaks_off: bool = False) -> Request:
    """Return a chunked request that sends these pieces and then ends, or hangs up."""
    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    messages.append({"type": "http.disconnect"} if breaks_off else {"type": "http.request", "body": b""})

    async def receive() -> Any:
        return messages.pop(0)

    return Request({"type": "http", "headers": []}, receive)


@given(st.lists(st.binary(max_size=20), max_size=8), st.integers(min_value=0, max_value=100))
def test_a_body_is_read_whole_or_refused(pieces: list[bytes], limit: int) -> None:
    whole = b"".join(pieces)
    if len(whole) > limit:
        with pytest.raises(BodyTooLarge):
            asyncio.run(read_body(request_of(pieces), limit=limit))
    else:
        assert asyncio.run(read_body(request_of(pieces), limit=limit)) == whole


def test_a_body_that_breaks_off_is_no_body() -> None:
    with pytest.raises(RequestInvalid, match="ended before it was complete"):
        asyncio.run(read_body(request_of([b"{}"], breaks_off=True), limit=10))


def test_a_sender_that_falls_silent_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "STALL_SECONDS", 0.01)

    async def never() -> Any:
        await asyncio.Event().wait()

    with pytest.raises(BodyStalled):
        asyncio.run(read_body(Request({"type": "http", "headers": []}, never), limit=10))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(body: bytes) -> None:
    try:
        message = parse_json(body, RegisterRequest)
    except RequestInvalid:
        return
    assert isinstance(message, RegisterRequest)
