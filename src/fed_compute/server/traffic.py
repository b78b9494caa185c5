"""Counts requests: how many, how long until their answer began, and how much went through."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fed_compute.server.instruments import Instruments
from fed_compute.server.problems import PROBLEM_CODE

NO_ROUTE = "(none)"
"""The route of a request that was answered before one was found, and of one for which there is none."""
OTHER = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CUT_OFF = 499
"""The status of a request that was never answered, as nginx writes it: its sender went away."""


class CountRequests:
    """The outermost layer. Labels are the route's template, method and status: strangers choose none of them."""

    def __init__(self, app: ASGIApp, instruments: Instruments) -> None:
        self._app = app
        self._instruments = instruments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, answered, received, sent = time.perf_counter(), _CUT_OFF, None, 0, 0

        async def listen() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def watch(message: Message) -> None:
            nonlocal status, answered, sent
            if message["type"] == "http.response.start":
                status, answered = message["status"], time.perf_counter()
            sent += len(message.get("body", b""))
            await send(message)

        counted = self._instruments
        try:
            with counted.in_flight.track_inprogress():
                await self._app(scope, listen, watch)
        finally:
            method, route = scope["method"] if scope["method"] in _METHODS else OTHER, route_of(scope)
            counted.requests.labels(method=method, route=route, status=str(status)).inc()
            counted.seconds.labels(method=method, route=route).observe((answered or time.perf_counter()) - began)
            counted.received_bytes.labels(route=route).inc(received)
            counted.sent_bytes.labels(route=route).inc(sent)
            if (code := scope.get(PROBLEM_CODE)) is not None:
                counted.problems.labels(code=code).inc()


def route_of(scope: Scope) -> str:
    """Return the template of the route that a request reached, such as `/task/{client_id}`."""
    route = scope.get("route")
    return getattr(route, "path", NO_ROUTE)
