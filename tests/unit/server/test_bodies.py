"""Bodies are read up to a limit and no further, whatever their sender claims."""

import asyncio
import itertools
from typing import Any

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import BodyStalled, BodyTooLarge, BodyTooSlow, ContentTypeUnsupported, RequestInvalid
from fed_compute.protocol.messages import RegisterRequest
from fed_compute.server import bodies
from fed_compute.server.bodies import JSON, TOML, parse_json, read_body, require_json, require_type


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


def test_a_body_that_trickles_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then is never silent for long, and holds a connection for days."""
    clock = itertools.count(step=bodies.STALL_SECONDS / 3)
    monkeypatch.setattr(bodies.anyio, "current_time", lambda: next(clock))

    async def trickle() -> Any:
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(BodyTooSlow, match="the least is 16384 bytes a second"):
        asyncio.run(read_body(Request({"type": "http", "headers": []}, trickle), limit=10**6))


HEADERS = st.lists(st.tuples(st.sampled_from([b"content-type", b"content-encoding", b"x"]), st.binary(max_size=40)))


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON", " application/json; charset=utf-8 "])
def test_json_is_taken_as_json(kind: str) -> None:
    require_json(Request({"type": "http", "headers": [(b"content-type", kind.encode())]}))


def test_one_of_several_types_is_told_apart() -> None:
    request = Request({"type": "http", "headers": [(b"content-type", b"application/toml")]})
    assert require_type(request, JSON, TOML) == TOML


@given(HEADERS)
def test_no_other_type_is_taken_for_json(headers: list[tuple[bytes, bytes]]) -> None:
    types = [value for name, value in headers if name == b"content-type"]
    coded = any(name == b"content-encoding" for name, _ in headers)
    right = not coded and len(types) == 1 and types[0].strip().lower() in (b"application/json", b"application/json;")
    if not right:
        with pytest.raises(ContentTypeUnsupported):
            require_json(Request({"type": "http", "headers": headers}))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(body: bytes) -> None:
    try:
        message = parse_json(body, RegisterRequest)
    except RequestInvalid:
        return
    assert isinstance(message, RegisterRequest)
