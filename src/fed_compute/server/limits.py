"""The limits of networks, before anything else is looked at, and what each answer tells of the sender's own."""

import contextlib
from collections.abc import Callable

import anyio.to_thread
from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fed_compute.coordinator.rate_limiter import Limit
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import FedComputeError, RateLimited, RateStoreUnreachable
from fed_compute.server.log_context import concerns
from fed_compute.server.networks import UNKNOWN, network_of
from fed_compute.server.problems import problem_response
from fed_compute.server.rate_fields import fields_of

_NETWORK = "fed_compute.network"
_SUBJECT = "fed_compute.subject"
_UNCOUNTED = ("/healthz", "/readyz")
_KEY_IN_BODY = ("/update", "/ui/login")


class NetworkLimits:
    """Counts each request of a network, and its wrong keys; over either limit nothing more is looked at.

    Wrong keys are slowed down like this: after so many within a minute, requests of the network that
    bring a key are refused before the key is read, good or bad.
    """

    def __init__(self, app: ASGIApp, coordinator: Coordinator) -> None:
        self._app = app
        self._core = coordinator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _UNCOUNTED:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        network = self._network(scope, headers)
        scope[_NETWORK] = network

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *await self._told(scope, message)]}
            await send(message)

        try:
            await apply_limits(self._core, lambda: self._admit(network, brings_key=_brings_key(scope, headers)))
        except FedComputeError as error:
            concerns(code=error.code)
            await problem_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, tell)

    def _network(self, scope: Scope, headers: Headers) -> str:
        peer = scope["client"][0] if scope.get("client") else None
        forwarded_for = ",".join(headers.getlist("x-forwarded-for"))
        return network_of(peer, forwarded_for, trusted=self._core.settings.trusted_proxies)

    def _admit(self, network: str, *, brings_key: bool) -> None:
        limiter = self._core.rate_limiter
        if brings_key:
            limiter.require_left(Limit.FAILURES, network)
        limiter.charge(Limit.NETWORK_REQUESTS, network)

    async def _told(self, scope: Scope, message: Message) -> list[tuple[bytes, bytes]]:
        """Note a wrong key, and return the fields that say what is left to the client or key that was let in.

        What is left to a network is not told: it would tell of its neighbours.
        """
        subject, told = scope.get(_SUBJECT), dict[str, str]()

        def look() -> None:
            if message["status"] == 401:
                note_failure(self._core, scope[_NETWORK])
            if subject is not None and not any(name.lower() == b"ratelimit" for name, _ in message["headers"]):
                limits = (Limit.REQUESTS, Limit.UPDATES) if scope["path"].endswith("/update") else (Limit.REQUESTS,)
                told.update(fields_of([self._core.rate_limiter.left(limit, subject) for limit in limits]))

        with contextlib.suppress(RateStoreUnreachable):  # the answer itself is ready, and worth more
            await apply_limits(self._core, look)
        return [(name.lower().encode(), value.encode()) for name, value in told.items()]


async def apply_limits(core: Coordinator, act: Callable[[], None]) -> None:
    """Do something with the limits: at once if they lie in memory, on a thread if the network is asked."""
    if core.rate_limiter.may_block:
        await anyio.to_thread.run_sync(act)
    else:
        act()


def sender_network(request: Request) -> str:
    """Return the network that a request comes from."""
    return str(request.scope.get(_NETWORK, UNKNOWN))


def charge_sender(core: Coordinator, request: Request, subject: str) -> None:
    """Count one request of a client, or of a key without a client, and let the answer tell what is left.

    Raises:
        RateLimited: if there have been too many.
    """
    core.rate_limiter.request(subject)
    request.scope[_SUBJECT] = subject


def charge_update(core: Coordinator, request: Request, client_id: str, *, num_bytes: int) -> None:
    """Count an update and its bytes for the network of a client, and its bytes for the client.

    Raises:
        RateLimited: if there was too much.
    """
    limiter, network = core.rate_limiter, sender_network(request)
    limiter.charge(Limit.UPLOADS, client_id, cost=num_bytes)
    limiter.charge(Limit.NETWORK_UPDATES, network)
    limiter.charge(Limit.NETWORK_UPLOADS, network, cost=num_bytes)
    request.scope[_SUBJECT] = client_id


def note_failure(core: Coordinator, network: str) -> None:
    """Count a wrong key or invitation of a network."""
    with contextlib.suppress(RateLimited):  # more than so many need not be counted
        core.rate_limiter.charge(Limit.FAILURES, network)


def _brings_key(scope: Scope, headers: Headers) -> bool:
    return (
        "authorization" in headers
        or b"api_key=" in scope["query_string"]
        or (scope["path"] in _KEY_IN_BODY and scope["method"] == "POST")
    )
