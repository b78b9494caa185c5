"""Invitations, for operators; observers may look."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from fed_compute.coordinator.invites import InviteView, Terms
from fed_compute.errors import ClientNotFound, InviteNotFound
from fed_compute.ids import ClientId
from fed_compute.server.admin_answers import (
    InviteAnswer,
    InviteRequest,
    InvitesAnswer,
    NewInviteAnswer,
    invite_answer,
)
from fed_compute.server.bodies import optional_json_body
from fed_compute.server.dependencies import Core, InviteName, Observer, OfClient, Operator, PageSize
from fed_compute.server.documentation import BODY, DISK, STAFF, refusals, takes_json

router = APIRouter(prefix="/admin/invites", tags=["admin"])

AfterInvite = Annotated[
    str | None, Query(pattern=r"^[0-9A-Za-z]{10}$", description="Return what comes after the invitation of this id.")
]


@router.get("", summary="List invitations, newest first", responses=refusals(*STAFF))
def list_invites(
    core: Core, _: Observer, inviter: OfClient = None, after: AfterInvite = None, limit: PageSize = 100
) -> InvitesAnswer:
    """Return invitations without their secrets, all or those of one inviter."""
    owner = None if inviter is None else ClientId(inviter)
    invites = core.invites.page(limit=limit, after=after, inviter=owner)
    more = invites[-1].invite.invite_id if len(invites) == limit else None
    return InvitesAnswer(invites=[invite_answer(invite) for invite in invites], next=more)


@router.post(
    "",
    summary="Make an invitation",
    status_code=201,
    responses=refusals(*STAFF, *DISK, *BODY, ClientNotFound),
    openapi_extra=takes_json(InviteRequest, required=False),
)
def create_invite(
    core: Core,
    by: Operator,
    response: Response,
    body: Annotated[InviteRequest, Depends(optional_json_body(InviteRequest))],
) -> NewInviteAnswer:
    """Make an invitation and return it, once. Without another word it is for one client, within 7 days."""
    terms = Terms(
        uses=body.uses,
        lifetime_seconds=body.days * 86_400,
        rounds_per_day=body.rounds_per_day,
        inviter=None if body.inviter is None else ClientId(body.inviter),
        label=body.label,
    )
    new = core.invites.create(terms, by=by.key_id)
    response.headers["Cache-Control"] = "no-store"
    return NewInviteAnswer(**invite_answer(InviteView(new.invite, "open")).model_dump(), invite=new.text)


@router.post("/{invite_id}/revoke", summary="End an invitation now", responses=refusals(*STAFF, *DISK, InviteNotFound))
def revoke_invite(core: Core, by: Operator, invite_id: InviteName) -> InviteAnswer:
    """End an invitation. Who came with it stays. May be repeated."""
    return invite_answer(core.invites.revoke(invite_id, by=by.key_id))
