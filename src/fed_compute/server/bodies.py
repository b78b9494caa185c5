"""Bodies of requests: read up to a limit, never past it, and checked as strict JSON."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
from fastapi import Request
from pydantic import BaseModel, ValidationError

from fed_compute.errors import BodyStalled, BodyTooLarge, ContentTypeUnsupported, RequestInvalid, UpdateMalformed
from fed_compute.protocol.strict_json import load_strict_json
from fed_compute.server.problems import invalid

SMALL_BODY_BYTES = 64 << 10
"""The limit of bodies that carry neither weights nor a job."""

STALL_SECONDS = 30.0
"""How long a sender may be silent in the middle of a body."""

_ModelT = TypeVar("_ModelT", bound=BaseModel)


async def next_message(request: Request) -> dict[str, Any]:
    """Return the next piece of a request as ASGI gives it.

    Raises:
        BodyStalled: if none comes in `STALL_SECONDS`.
    """
    try:
        with anyio.fail_after(STALL_SECONDS):
            return dict(await request.receive())
    except TimeoutError:
        raise BodyStalled(seconds=STALL_SECONDS) from None


async def read_body(request: Request, *, limit: int) -> bytes:
    """Return the whole body.

    Raises:
        BodyTooLarge: if it has more than `limit` bytes. No more than that is held.
        RequestInvalid: if the sender went away in the middle.
    """
    announced = content_length(request)
    if announced is not None and announced > limit:
        raise BodyTooLarge(got=announced, limit=limit)
    body, more = bytearray(), True
    while more:
        message = await next_message(request)
        if message["type"] != "http.request":
            raise RequestInvalid("the body ended before it was complete")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            raise BodyTooLarge(got=len(body), limit=limit)
    return bytes(body)


def content_length(request: Request) -> int | None:
    """Return the length that the request announces, None if it announces none. Absurd lengths are cut to 18 digits."""
    text = request.headers.get("content-length", "")
    return int(text[:18]) if text.isascii() and text.isdecimal() else None


def require_json(request: Request) -> None:
    """Check that a body claims to be JSON, or claims nothing.

    Raises:
        ContentTypeUnsupported: if it claims to be something else.
    """
    kind = media_type(request)
    if kind and kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise ContentTypeUnsupported(got=kind[:80], want="application/json")


def media_type(request: Request) -> str:
    """Return the media type of the body in lower case and without parameters; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


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
