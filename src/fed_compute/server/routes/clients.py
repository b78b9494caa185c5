"""Clients about themselves: registration, their own standing, their own key."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response

from fed_compute.coordinator.auth import Principal
from fed_compute.coordinator.rate_limiter import Limit
from fed_compute.coordinator.registration import Registered
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import (
    AuthenticationFailed,
    ClientNameInvalid,
    ClientNameTaken,
    InviteInvalid,
    InviteRequired,
    KeyEnded,
    ProofOfWorkRequired,
)
from fed_compute.ids import ClientId
from fed_compute.protocol.messages import (
    ClientStateAnswer,
    RegisterAnswer,
    RegisterRequest,
    RotateAnswer,
    RotateRequest,
)
from fed_compute.server.admin_answers import rotated
from fed_compute.server.bodies import json_body, optional_json_body
from fed_compute.server.dependencies import ClientName, Core, Key
from fed_compute.server.documentation import BODY, CLIENT, DISK, RECORDS, refusals, takes_json
from fed_compute.server.limits import charge_sender, note_failure, sender_network

router = APIRouter(tags=["clients"])


@router.post(
    "/client/register",
    summary="Register a client and get its key, once",
    response_model_exclude_none=True,
    responses=refusals(
        *RECORDS, *DISK, *BODY, ClientNameInvalid, ClientNameTaken, InviteRequired, InviteInvalid, ProofOfWorkRequired
    ),
    openapi_extra=takes_json(RegisterRequest),
)
def register(
    core: Core,
    request: Request,
    response: Response,
    body: Annotated[RegisterRequest, Depends(json_body(RegisterRequest))],
) -> RegisterAnswer:
    """Register under `client_name`, or under a name that is made up if there is none. The name is the client's id.

    What a newcomer needs beside a name is the coordinator's policy: nothing, an `invite`, an operator's
    approval (`state` is then `pending`), or a `proof` of work, for which 428 brings the challenge.
    """
    network = sender_network(request)
    core.rate_limiter.require_left(Limit.REGISTRATIONS, network)
    if not core.registrar.only_asks(invite=body.invite, proof=body.proof):
        core.rate_limiter.registration(network)
    new = _register(core, body, network)
    response.headers["Cache-Control"] = "no-store"
    what_next = " It waits for an operator's approval." if new.is_pending else ""
    return RegisterAnswer(
        success=True,
        message=f"Client {new.client_id} registered successfully. Save your API key!{what_next}",
        client_id=new.client_id,
        api_key=new.key,
        state="pending" if new.is_pending else None,
    )


def _register(core: Coordinator, body: RegisterRequest, network: str) -> Registered:
    told = body.capabilities.model_dump_json(exclude_none=True) if body.capabilities is not None else "{}"
    try:
        return core.registrar.register(body.client_name, capabilities=told, invite=body.invite, proof=body.proof)
    except InviteInvalid:
        note_failure(core, network)  # an invitation can be guessed at like a key
        raise


@router.get(
    "/client/{client_id}",
    summary="Get the client's own standing",
    responses=refusals(*RECORDS, *CLIENT),
)
def standing(core: Core, request: Request, client_id: ClientName, key: Key) -> ClientStateAnswer:
    """Say whether the client may take part or still waits for approval. Answered with its own key only."""
    principal = core.auth.identify(key)
    own = _own(principal, client_id)
    charge_sender(core, request, own)
    view = core.clients.view(own)
    state: Literal["active", "pending"] = "pending" if principal.is_pending else "active"
    return ClientStateAnswer(
        client_id=own,
        state=state,
        registered_at=view.client.registered_at,
        rounds_per_day=view.client.rounds_per_day,
        key_id=principal.key_id,
        key_expires_at=next(one.key.expires_at for one in view.keys if one.key.key_id == principal.key_id),
    )


def owner(core: Core, request: Request, client_id: ClientName, key: Key) -> Principal:
    """Return the key that was sent, which must be this client's own.

    Raises:
        AuthenticationFailed: if it is not.
        ClientBanned, ClientPending: if the client may not take part.
        RateLimited: if it asks too often.
    """
    principal = core.auth.authenticate(key)
    charge_sender(core, request, _own(principal, client_id))
    return principal


@router.post(
    "/client/{client_id}/key/rotate",
    summary="Renew the client's own key",
    responses=refusals(*RECORDS, *DISK, *BODY, *CLIENT, KeyEnded),
    openapi_extra=takes_json(RotateRequest, required=False),
)
def rotate(
    core: Core,
    response: Response,
    by: Annotated[Principal, Depends(owner)],
    body: Annotated[RotateRequest, Depends(optional_json_body(RotateRequest))],
) -> RotateAnswer:
    """Make a new key and return it, once. The old one stays good for `overlap_hours`, 24 if nothing is said.

    If the answer is lost, ask again with the old key: a new key that nobody has used is replaced.
    """
    issued = core.keys.rotate(by.key_id, overlap_seconds=body.overlap_hours * 3600, by=by.key_id)
    response.headers["Cache-Control"] = "no-store"
    return rotated(core, issued, [by.key_id], body)


def _own(principal: Principal, client_id: str) -> ClientId:
    """Check that a key is this client's own.

    Raises:
        AuthenticationFailed: if it belongs to somebody else.
    """
    if principal.client_id is None or principal.client_id != client_id:
        raise AuthenticationFailed()
    return principal.client_id
