"""What routes stand on: the coordinator, who asks, and which protocol they speak."""

import re
from dataclasses import dataclass, field
from typing import Annotated, cast

import anyio
from fastapi import Depends, Header, Path, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from fed_compute.coordinator.auth import Principal
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import AuthenticationFailed, ProtocolUnsupported
from fed_compute.ids import ClientId
from fed_compute.protocol.messages import PROTOCOL_HEADER, PROTOCOL_VERSION
from fed_compute.server.instruments import Instruments
from fed_compute.server.limits import charge_sender
from fed_compute.server.log_context import concerns
from fed_compute.server.news import News
from fed_compute.server.seats import Seats
from fed_compute.server.uploads import Uploads

LOWEST_PROTOCOL = HIGHEST_PROTOCOL = PROTOCOL_VERSION
MAX_ROUND_ID = 2**53

_PROTOCOL = re.compile(r"([0-9]{1,4})(\.[0-9]{1,4})?", re.ASCII)
_BEARER = HTTPBearer(auto_error=False, description="The key from `POST /client/register`, or the operator's.")


@dataclass(frozen=True, slots=True)
class ServerState:
    """What one server process has beside its coordinator. The limiters say how many of a kind run at once."""

    coordinator: Coordinator
    news: News
    uploads: Uploads
    seats: Seats
    instruments: Instruments = field(default_factory=Instruments)
    asking: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(8))
    """Looks for a task: waiting clients wake together, and must not take every thread."""
    reading_json: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(4))
    """JSON updates: a large one takes twenty times its length while it is read."""
    judging: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(8))
    """Binary updates that are being looked into, each in memory as a whole."""


async def server_state(request: Request) -> ServerState:
    """Return the state of the application that the request reached."""
    return cast(ServerState, request.app.state.server)


async def coordinator_of(request: Request) -> Coordinator:
    """Return the coordinator of the application that the request reached."""
    return (await server_state(request)).coordinator


State = Annotated[ServerState, Depends(server_state)]
Core = Annotated[Coordinator, Depends(coordinator_of)]


async def key_of(
    request: Request,
    core: Core,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    api_key: Annotated[
        str | None, Query(max_length=200, description="The key, as the first clients sent it. The header is better.")
    ] = None,
) -> str | None:
    """Return the key that came with the request: the header's, else the query's if that is allowed.

    Raises:
        AuthenticationFailed: if there are two headers. A proxy in between may have looked at the other one.
    """
    if len(request.headers.getlist("authorization")) > 1:
        raise AuthenticationFailed("there are two Authorization headers, wanted one")
    if credentials is not None:
        return credentials.credentials
    return api_key if core.settings.allow_query_keys else None


Key = Annotated[str | None, Depends(key_of)]


async def spoken_protocol(
    fed_compute_protocol: Annotated[
        str | None, Header(alias=PROTOCOL_HEADER, description="The protocol's major version.")
    ] = None,
) -> int | None:
    """Return the protocol that the client speaks, None for a client of the first API, which sends no header.

    Raises:
        ProtocolUnsupported: if the version is not one that is spoken here, or is no version.
    """
    if fed_compute_protocol is None:
        return None
    match = _PROTOCOL.fullmatch(fed_compute_protocol)
    if match is None or not LOWEST_PROTOCOL <= int(match.group(1)) <= HIGHEST_PROTOCOL:
        raise ProtocolUnsupported(got=fed_compute_protocol[:40], lowest=LOWEST_PROTOCOL, highest=HIGHEST_PROTOCOL)
    return int(match.group(1))


async def note_path(request: Request) -> None:
    """Let the request's log lines say which round, task or job its path names."""
    route, named = request.scope.get("route"), request.path_params
    round_id = str(named.get("round_id", ""))
    concerns(
        round_id=int(round_id) if round_id.isascii() and round_id.isdigit() and len(round_id) <= 16 else None,
        task_id=named.get("task_id"),
        job=named["name"] if getattr(route, "path", "").startswith("/jobs/{name}") else None,
    )


Spoken = Annotated[int | None, Depends(spoken_protocol)]


def welcome(request: Request, core: Coordinator, client_id: ClientId) -> ClientId:
    """Count a request of a client whose key was verified, and note that it is there.

    Raises:
        RateLimited: if it asks too often.
    """
    concerns(client_id=client_id)
    charge_sender(core, request, client_id)
    core.presence.note(client_id)
    return client_id


def signed_in_client(request: Request, core: Core, key: Key) -> ClientId:
    """Return the client that the key belongs to.

    Raises:
        AuthenticationFailed: if the key is not a client's.
        ClientBanned, ClientPending: if the client may not take part.
        RateLimited: if it asks too often.
    """
    client_id = core.auth.authenticate(key).client_id
    if client_id is None:
        raise AuthenticationFailed("this call needs a client's key, not an operator's")
    return welcome(request, core, client_id)


def signed_in_operator(request: Request, core: Core, key: Key) -> Principal:
    """Let only an operator pass.

    Raises:
        AuthenticationFailed, PermissionDenied: for everybody else.
        RateLimited: if the key is used too often.
    """
    return _staff(request, core, core.auth.require_operator(key))


def signed_in_observer(request: Request, core: Core, key: Key) -> Principal:
    """Let an observer or an operator pass.

    Raises:
        AuthenticationFailed, PermissionDenied: for everybody else.
        RateLimited: if the key is used too often.
    """
    return _staff(request, core, core.auth.require_observer(key))


def _staff(request: Request, core: Coordinator, principal: Principal) -> Principal:
    concerns(key_id=principal.key_id)
    charge_sender(core, request, f"key:{principal.key_id}")  # no client can be called so
    return principal


SignedIn = Annotated[ClientId, Depends(signed_in_client)]
Operator = Annotated[Principal, Depends(signed_in_operator)]
Observer = Annotated[Principal, Depends(signed_in_observer)]

RoundNumber = Annotated[int, Path(ge=1, le=MAX_ROUND_ID, description="The round's number.")]
ClientName = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="The client's id, which is its name.")
]
TaskName = Annotated[str, Path(pattern=r"^t_[0-9a-f]{24}$", description="The task's id.")]
JobName = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="The job's name.")]
OfJob = Annotated[
    str | None, Query(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", description="A job's name; the default job without.")
]
OfClient = Annotated[
    str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="A client's id, which is its name.")
]
KeyName = Annotated[str, Path(pattern=r"^[0-9A-Za-z]{10}$", description="The key's id, its middle part.")]
InviteName = Annotated[str, Path(pattern=r"^[0-9A-Za-z]{10}$", description="The invitation's id, its middle part.")]
PageSize = Annotated[int, Query(ge=1, le=100, description="How many to return at most.")]
