"""Structured logs of the server process: one JSON object a line, no query strings, no keys."""

import contextlib
import logging
import re
import secrets
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO, cast

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fed_compute.errors import SettingInvalid
from fed_compute.protocol.messages import PROTOCOL_HEADER, PROTOCOL_VERSION
from fed_compute.protocol.redaction import redact, redact_event
from fed_compute.server.log_context import merge_facts, request_context
from fed_compute.server.networks import Network, is_within

LEVELS = ("debug", "info", "warning", "error")
SPOKEN = (PROTOCOL_HEADER.lower().encode(), str(PROTOCOL_VERSION).encode())
"""The header field that tells the protocol in every answer."""

_QUIET_PATHS = ("/healthz", "/readyz")
_REQUEST_ID = re.compile(r"[0-9A-Za-z.:_-]{8,128}", re.ASCII)

log = structlog.get_logger(__name__)


def configure_logging(level: str = "info", *, stream: TextIO | None = None) -> None:
    """Send structlog's events and the standard library's records to `stream` (standard error if None).

    Each line has `event`, `level`, `timestamp` (UTC, ISO 8601) and the event's own fields. A line that cannot be
    written, on a full disk or to a reader that went away, is lost, and nothing else is.

    Raises:
        SettingInvalid: if there is no such level.
    """
    if level.lower() not in LEVELS:
        raise SettingInvalid(f"log_level is {level[:40]!r}, wanted one of {', '.join(LEVELS)}")
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        merge_facts,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    finish: list[Any] = [structlog.processors.format_exc_info, redact_event, structlog.processors.JSONRenderer()]
    target = cast(TextIO, _Unfailing(sys.stderr if stream is None else stream))
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *finish],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.WARNING))


class _Unfailing:
    """Writes to a stream for as long as that can be written. Whoever logs is never stopped by it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


class AccessLog:
    """Writes one line for each request: method, path, status, duration in seconds, and what it was about.

    The query string is left out, since it may hold a key. The request's id goes back as `X-Request-ID`, beside
    the protocol's version, and is in every line that is logged on the request's behalf. It is drawn here, unless
    a proxy in one of the `trusted` networks has given one.
    """

    def __init__(self, app: ASGIApp, trusted: Sequence[Network] = ()) -> None:
        self._app = app
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, began, status = self._request_id(scope), time.monotonic(), 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (b"x-request-id", request_id.encode()), SPOKEN]
                message = {**message, "headers": headers}
            await send(message)

        with request_context(request_id=request_id):
            try:
                await self._app(scope, receive, watch)
            finally:
                path = redact(scope["path"])
                write = log.debug if path in _QUIET_PATHS else log.info
                seconds = round(time.monotonic() - began, 4)
                write("request", method=scope["method"], path=path[:200], status=status, seconds=seconds)

    def _request_id(self, scope: Scope) -> str:
        peer = scope["client"][0] if scope.get("client") else None
        given = Headers(scope=scope).getlist("x-request-id")
        if len(given) == 1 and is_request_id(given[0]) and is_within(peer, self._trusted):
            return given[0]
        return secrets.token_hex(8)


def is_request_id(text: str) -> bool:
    """Say whether a request id from elsewhere can be taken: 8 to 128 letters, digits and `.:_-`, and no key."""
    return _REQUEST_ID.fullmatch(text) is not None and redact(text) == text
