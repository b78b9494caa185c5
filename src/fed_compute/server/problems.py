"""Every error as an RFC 9457 problem document with a stable `code`.

What the product raises on purpose keeps its own status and code. Everything else becomes 404, 405,
422 or 500; a 500 says nothing about the inside, the log has the traceback.
"""

import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fed_compute.errors import (
    AuthenticationFailed,
    Broken,
    DiskFailed,
    DiskFull,
    FedComputeError,
    MethodNotAllowed,
    NotNow,
    PathNotFound,
    ProtocolUnsupported,
    RangeNotSatisfiable,
    RateLimited,
    RequestInvalid,
    disk_error,
)
from fed_compute.protocol.redaction import redact
from fed_compute.server.log_context import concerns
from fed_compute.server.rate_fields import fields_of_refusal

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:fed-compute:error:"
PROBLEM_CODE = "fed_compute.problem_code"
"""Where an answer that is a problem document leaves its code, in the scope of its request."""
RESERVED = frozenset({"type", "title", "status", "detail", "code", "instance"})
SHOWN_ERRORS = 10

Answer = Callable[[Request, FedComputeError, Mapping[str, str]], Awaitable[Response]]
"""Makes an answer of an error; the mapping holds further headers."""

log = structlog.get_logger(__name__)


def problem_response(error: FedComputeError, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer for an error that the product raises on purpose, with further `headers`."""
    headers = dict(headers or {})
    if isinstance(error, NotNow):
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    if isinstance(error, RateLimited):
        headers |= fields_of_refusal(error)
    if isinstance(error, AuthenticationFailed):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, ProtocolUnsupported):
        headers["Upgrade"] = "fed-compute/1"
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.details['size']}"
    # What broke inside is for the log, not for strangers.
    told = "the coordinator failed; its log says why" if isinstance(error, Broken) else error.message
    details = {} if isinstance(error, Broken) else error.details
    return _problem(error.status, error.code, told, details=details, headers=headers)


async def answer_with_problem(request: Request, error: FedComputeError, headers: Mapping[str, str]) -> Response:
    """Answer every error with a problem document."""
    return problem_response(error, headers=headers)


def invalid(errors: Sequence[Mapping[str, Any]]) -> RequestInvalid:
    """Turn pydantic's findings into one refusal: a sentence for people and a list for programs."""
    shown = [_finding(error) for error in errors[:SHOWN_ERRORS]]
    sentence = "; ".join(f"{item['field']}: {item['wanted']}, found {item['found']}" for item in shown[:3])
    return RequestInvalid(sentence, errors=shown)


def install_problem_handlers(app: FastAPI, make_answer: Answer) -> None:
    """Make every error of the application what `make_answer` makes of it: a problem document, or a page for people.

    The request's log line tells its code.
    """

    async def answer(request: Request, error: FedComputeError, headers: Mapping[str, str]) -> Response:
        concerns(code=error.code)
        return await make_answer(request, error, headers)

    app.add_exception_handler(FedComputeError, partial(_on_product_error, answer))
    app.add_exception_handler(RequestValidationError, partial(_on_invalid_request, answer))
    app.add_exception_handler(HTTPException, partial(_on_http_error, answer))
    app.add_exception_handler(OSError, partial(_on_os_error, answer))
    app.add_exception_handler(ClientDisconnect, _on_disconnect)


class UnexpectedErrors:
    """Outermost layer: an error that nobody foresaw is logged with its traceback and answered as a bare 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception:
            if scope["type"] != "http" or started:
                raise  # too late for an answer: the server logs it and cuts the connection
            concerns(code=Broken.code)
            log.exception("request_failed", method=scope["method"], path=redact(scope["path"]))
            await _problem(500, Broken.code, "the coordinator failed; its log says why")(scope, receive, send)


async def _on_product_error(answer: Answer, request: Request, error: Exception) -> Response:
    if not isinstance(error, FedComputeError):
        raise error
    if isinstance(error, Broken):
        log.error("request_failed", code=error.code, path=redact(request.url.path), exc_info=error)
    elif isinstance(error, DiskFull | DiskFailed):  # no fault of ours, and yet an operator has to act
        log.error(error.code, path=redact(request.url.path), cause=str(error.__cause__))
    return await answer(request, error, {})


async def _on_invalid_request(answer: Answer, request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return await answer(request, invalid(error.errors()), {})


async def _on_http_error(answer: Answer, request: Request, error: Exception) -> Response:
    """Answer for what the framework itself refuses: no such route, no such method."""
    if not isinstance(error, HTTPException):
        raise error
    path, headers = redact(request.url.path)[:200], dict(error.headers or {})
    refusal: FedComputeError
    match error.status_code:
        case 404:
            refusal = PathNotFound(path)
        case 405:
            refusal = MethodNotAllowed(path=path, method=request.method)
        case _:
            refusal = RequestInvalid(str(error.detail))
    return await answer(request, refusal, headers)


async def _on_os_error(answer: Answer, request: Request, error: Exception) -> Response:
    told = disk_error(error) if isinstance(error, OSError) else None
    if told is None:
        raise error
    told.__cause__ = error
    return await _on_product_error(answer, request, told)


async def _on_disconnect(request: Request, error: Exception) -> Response:
    """The sender went away in the middle of its body; nobody reads this answer."""
    return Response(status_code=400)


class _ProblemDocument(Response):
    """An answer that leaves its code in the scope, for whoever counts."""

    media_type = PROBLEM_JSON

    def __init__(self, code: str, document: Mapping[str, object], status: int, headers: Mapping[str, str]) -> None:
        # ASCII: what a stranger sent may hold lone surrogates, which UTF-8 cannot carry
        super().__init__(json.dumps(document), status_code=status, headers=headers)
        self._code = code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[PROBLEM_CODE] = self._code
        await super().__call__(scope, receive, send)


def _problem(
    status: int,
    code: str,
    detail: str,
    *,
    details: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    document = {
        "type": f"{TYPE_PREFIX}{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": redact(detail),
        "code": code,
        **{name: _plain(value) for name, value in (details or {}).items() if name not in RESERVED},
    }
    return _ProblemDocument(code, document, status, headers or {})


def _plain(value: object) -> object:
    """Return a value as plain JSON data: no keys, no NaN, no foreign objects."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return redact(str(value))


def _finding(error: Mapping[str, Any]) -> dict[str, str]:
    where = ".".join(str(part) for part in error["loc"]) or "body"
    wanted = str(error["msg"]).removeprefix("Value error, ")
    return {"field": where[:200], "found": _found(where, error.get("input")), "wanted": wanted[:500]}


def _found(where: str, value: object) -> str:
    """Describe what was sent, without repeating anything long or secret."""
    if any(secret in where.lower() for secret in ("api_key", "authorization", "invite")):
        return "something else"
    match value:
        case None:
            return "nothing"
        case bool() | int() | float():
            return repr(value)[:80]
        case str():
            return redact(repr(value[:80]))
        case Mapping():
            return "an object"
        case _:
            return "a list" if isinstance(value, list | tuple) else "something else"
