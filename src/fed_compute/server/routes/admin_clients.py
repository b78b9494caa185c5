"""Clients, for operators; observers may look."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response

from fed_compute.errors import ClientNotFound, ClientStateConflict
from fed_compute.ids import ClientId
from fed_compute.protocol.messages import RotateAnswer, RotateRequest
from fed_compute.server.admin_answers import (
    BannedAnswer,
    BanRequest,
    ClientAnswer,
    ClientDetailsAnswer,
    ClientsAnswer,
    client_answer,
    client_details,
    rotated,
)
from fed_compute.server.bodies import optional_json_body
from fed_compute.server.dependencies import ClientName, Core, Observer, OfClient, Operator, PageSize
from fed_compute.server.documentation import BODY, DISK, STAFF, refusals, takes_json

router = APIRouter(prefix="/admin/clients", tags=["admin"])

OfInvite = Annotated[
    str | None, Query(pattern=r"^[0-9A-Za-z]{10}$", description="Only those that came with this invitation.")
]


@router.get("", summary="List clients by id", responses=refusals(*STAFF))
def list_clients(
    core: Core,
    _: Observer,
    state: Annotated[
        Literal["active", "pending", "banned"] | None, Query(description="Only clients in this state.")
    ] = None,
    invite_id: OfInvite = None,
    inviter: OfClient = None,
    after: OfClient = None,
    limit: PageSize = 100,
) -> ClientsAnswer:
    """Return clients in short, all or those in one state, of one invitation or of one inviter."""
    clients = core.clients.page(
        limit=limit,
        after=None if after is None else ClientId(after),
        state=state,
        invite_id=invite_id,
        inviter=None if inviter is None else ClientId(inviter),
    )
    more = clients[-1].client_id if len(clients) == limit else None
    return ClientsAnswer(clients=[client_answer(client) for client in clients], next=more)


@router.get("/{client_id}", summary="Get one client", responses=refusals(*STAFF, ClientNotFound))
def get_client(core: Core, _: Observer, client_id: ClientName) -> ClientDetailsAnswer:
    """Return one client with its keys, its inviter and whom it has invited, and its live lease."""
    return client_details(core.clients.view(ClientId(client_id)))


@router.post(
    "/{client_id}/approve",
    summary="Let a pending client take part",
    responses=refusals(*STAFF, *DISK, ClientNotFound, ClientStateConflict),
)
def approve_client(core: Core, by: Operator, client_id: ClientName) -> ClientAnswer:
    """Let a client take part that has waited for it. May be repeated."""
    return client_answer(core.clients.approve(ClientId(client_id), by=by.key_id))


@router.post(
    "/{client_id}/ban",
    summary="Shut a client out",
    responses=refusals(*STAFF, *DISK, *BODY, ClientNotFound),
    openapi_extra=takes_json(BanRequest, required=False),
)
def ban_client(
    core: Core,
    by: Operator,
    client_id: ClientName,
    body: Annotated[BanRequest, Depends(optional_json_body(BanRequest))],
) -> BannedAnswer:
    """Refuse a client's next request, take its lease back, and close its invitations. May be repeated.

    Updates that were accepted stay counted.
    """
    banned = core.clients.ban(ClientId(client_id), reason=body.reason, with_invited=body.with_invited, by=by.key_id)
    return BannedAnswer(clients=[client_answer(client) for client in banned])


@router.post(
    "/{client_id}/unban",
    summary="Let a client that was shut out in again",
    responses=refusals(*STAFF, *DISK, ClientNotFound, ClientStateConflict),
)
def unban_client(core: Core, by: Operator, client_id: ClientName) -> ClientAnswer:
    """Let a client take part again; its keys are good as before. Those it has invited stay as they are."""
    return client_answer(core.clients.unban(ClientId(client_id), by=by.key_id))


@router.post(
    "/{client_id}/rotate",
    summary="Make a new key for a client",
    responses=refusals(*STAFF, *DISK, *BODY, ClientNotFound),
    openapi_extra=takes_json(RotateRequest, required=False),
)
def rotate_client(
    core: Core,
    by: Operator,
    response: Response,
    client_id: ClientName,
    body: Annotated[RotateRequest, Depends(optional_json_body(RotateRequest))],
) -> RotateAnswer:
    """Make a new key for a client that lost its own, and return it, once. Its live keys end after the overlap."""
    owner = ClientId(client_id)
    old = [view.key.key_id for view in core.keys.page(client_id=owner) if view.state == "live"]
    issued = core.keys.rotate_client(owner, overlap_seconds=body.overlap_hours * 3600, by=by.key_id)
    response.headers["Cache-Control"] = "no-store"
    return rotated(core, issued, old, body)
