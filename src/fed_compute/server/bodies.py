"""Bodies of requests: read up to a limit, never past it, and checked as strict JSON."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import anyio
from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from fed_compute.errors import (
    BodyStalled,
    BodyTooLarge,
    BodyTooSlow,
    ContentTypeUnsupported,
    RequestInvalid,
    UpdateMalformed,
)
from fed_compute.protocol.strict_json import load_strict_json
from fed_compute.server.problems import invalid

JSON = "application/json"
TOML = "application/toml"

SMALL_BODY_BYTES = 64 << 10
"""The limit of bodies that carry neither weights nor a job."""

STALL_SECONDS = 30.0
"""How long a sender may be silent in the middle of a body."""

SLOWEST_BYTES_PER_SECOND = 16 << 10
"""The least rate of a body as a whole, `STALL_SECONDS` not counted: a modem of 1998 is faster in most places."""

_ModelT = TypeVar("_ModelT", bound=BaseModel)


async def pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes.

    Raises:
        BodyStalled: if nothing comes in `STALL_SECONDS`.
        BodyTooSlow: if it comes more slowly than a body may.
        ClientDisconnect: if the sender went away in the middle.
    """
    began, received, more = anyio.current_time(), 0, True
    while more:
        message = await _next_message(request)
        if message["type"] != "http.request":
            raise ClientDisconnect
        piece = message.get("body", b"")
        received += len(piece)
        yield piece
        more = message.get("more_body", False)
        seconds = anyio.current_time() - began
        if more and seconds > STALL_SECONDS + received / SLOWEST_BYTES_PER_SECOND:
            raise BodyTooSlow(got=received, seconds=seconds, bytes_per_second=SLOWEST_BYTES_PER_SECOND)


async def _next_message(request: Request) -> dict[str, Any]:
    try:
        with anyio.fail_after(STALL_SECONDS):
            return dict(await request.receive())
    except TimeoutError:
        raise BodyStalled(seconds=STALL_SECONDS) from None


async def read_body(request: Request, *, limit: int) -> bytes:
    """Return the whole body.

    Raises:
        BodyTooLarge: if it has more than `limit` bytes. No more than that is held.
        BodyStalled, BodyTooSlow: as `pieces`.
        RequestInvalid: if the sender went away in the middle.
    """
    announced = content_length(request)
    if announced is not None and announced > limit:
        raise BodyTooLarge(got=announced, limit=limit)
    body = bytearray()
    try:
        async for piece in pieces(request):
            body += piece
            if len(body) > limit:
                raise BodyTooLarge(got=len(body), limit=limit)
    except ClientDisconnect:
        raise RequestInvalid("the body ended before it was complete") from None
    return bytes(body)


def content_length(request: Request) -> int | None:
    """Return the length that the request announces, None if it announces none. Absurd lengths are cut to 18 digits."""
    text = request.headers.get("content-length", "")
    return int(text[:18]) if text.isascii() and text.isdecimal() else None


def require_json(request: Request) -> None:
    """Check that a body is JSON, as it is.

    Raises:
        ContentTypeUnsupported: as `require_type`.
    """
    require_type(request, JSON)


def require_type(request: Request, *wanted: str) -> str:
    """Check the body's type; return the one of `wanted` that it has.

    Raises:
        ContentTypeUnsupported: if there is not exactly one `Content-Type` and this one of `wanted`, or if
            the body has a `Content-Encoding`. Only `charset=utf-8` may follow, and only where text is wanted.
    """
    for coding in request.headers.getlist("content-encoding"):
        raise ContentTypeUnsupported(got=f"Content-Encoding: {coding[:80]}", want="a body without Content-Encoding")
    found = [value.strip().lower() for value in request.headers.getlist("content-type")]
    kind, _, parameter = found[0].partition(";") if len(found) == 1 else ("", "", "")
    kind = kind.strip()
    charset = parameter.strip().replace('"', "")
    if kind not in wanted or not (charset == "" or (charset == "charset=utf-8" and kind in (JSON, TOML))):
        raise ContentTypeUnsupported(got=", ".join(found)[:80] or "no Content-Type", want=" or ".join(wanted))
    return kind


def parse_json(body: bytes, model: type[_ModelT]) -> _ModelT:
    """Read a body as a message.

    Raises:
        RequestInvalid: if it is no JSON, or not this message: what was found and what was wanted.
    """
    try:
        document = load_strict_json(body, what="the body", non_finite=True)
    except UpdateMalformed as error:
        raise RequestInvalid(error.message) from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False)) from None


def json_body(model: type[_ModelT]) -> Callable[[Request], Awaitable[_ModelT]]:
    """Return a dependency that reads a small JSON body as `model`."""

    async def read(request: Request) -> _ModelT:
        require_json(request)
        return parse_json(await read_body(request, limit=SMALL_BODY_BYTES), model)

    return read


def optional_json_body(model: type[_ModelT]) -> Callable[[Request], Awaitable[_ModelT]]:
    """Return a dependency that reads a small JSON body as `model`; no body at all is one with every default."""

    async def read(request: Request) -> _ModelT:
        body = await read_body(request, limit=SMALL_BODY_BYTES)
        if not body:
            return model()
        require_json(request)
        return parse_json(body, model)

    return read
