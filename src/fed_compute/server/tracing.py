"""Each request as a step of a trace: the one that its `traceparent` names, or one of its own."""

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fed_compute.protocol import tracing
from fed_compute.server.traffic import route_of

_UNTRACED = ("/healthz", "/readyz", "/metrics", "/metrics/prometheus", "/events")
"""What monitoring asks for all the time, and what never ends."""


class TraceRequests:
    """Tells of requests while tracing is on; lines that are logged meanwhile bear the trace's number as `trace_id`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not tracing.is_on() or scope["type"] != "http" or scope["path"] in _UNTRACED:
            await self._app(scope, receive, send)
            return
        method, parent = scope["method"][:20], Headers(scope=scope).get(tracing.HEADER)
        with tracing.span(method, kind="server", parent=parent, attributes={"http.request.method": method}) as step:

            async def watch(message: Message) -> None:
                if message["type"] == "http.response.start":
                    status = message["status"]
                    step.note({"http.response.status_code": status})
                    if status >= 500:
                        step.fail(f"status {status}")
                await send(message)

            with structlog.contextvars.bound_contextvars(**_named(tracing.current())):
                await self._app(scope, receive, watch)
            route = route_of(scope)
            step.rename(f"{method} {route}")
            step.note({"http.route": route})


def _named(step: str | None) -> dict[str, str]:
    return {} if step is None else {"trace_id": step.split("-")[1]}
