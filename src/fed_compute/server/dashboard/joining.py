"""The page for newcomers: the line that a volunteer types, and invitations for it."""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from fed_compute.coordinator.invites import DEFAULT_DAYS, LONGEST_DAYS, MOST_USES, InviteView, NewInvite, Terms
from fed_compute.coordinator.sessions import Session
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import FedComputeError, RequestInvalid
from fed_compute.server.dashboard.render import Notice, render
from fed_compute.server.dashboard.visitors import Form, OperatorVisitor, Visitor
from fed_compute.server.dependencies import Core, InviteName

INVITES = 50
LONGEST_LABEL = 80
MOST_ROUNDS = 1_000_000

router = APIRouter(include_in_schema=False)


@router.get("/ui/join")
def join(request: Request, core: Core, visitor: Visitor) -> Response:
    """Show the line that a volunteer types, and to staff the invitations."""
    return _page(request, core, visitor)


@router.post("/ui/invites")
def create_invite(request: Request, core: Core, visitor: OperatorVisitor, form: Form) -> Response:
    """Make an invitation and show the line with it, this once."""
    try:
        new = core.invites.create(_terms(form), by=visitor.principal.key_id)
    except FedComputeError as error:
        return _page(request, core, visitor, status=error.status, notice=Notice("bad", error.message))
    return _page(request, core, visitor, new=new)


@router.post("/ui/invites/{invite_id}/revoke")
def revoke_invite(core: Core, visitor: OperatorVisitor, form: Form, invite_id: InviteName) -> Response:
    """End an invitation now."""
    core.invites.revoke(invite_id, by=visitor.principal.key_id)
    return RedirectResponse("/ui/join?did=revoked", status_code=303)


def _page(
    request: Request,
    core: Coordinator,
    visitor: Session | None,
    *,
    new: NewInvite | None = None,
    status: int = 200,
    notice: Notice | None = None,
) -> Response:
    invites: Sequence[InviteView] = ()
    if visitor is not None and visitor.is_staff:
        invites = core.invites.page(limit=INVITES)
    return render(
        request,
        "join.html",
        visitor,
        status=status,
        notice=notice,
        url=str(request.base_url).rstrip("/"),
        policy=core.settings.registration.value,
        new=new,
        invites=invites,
        default_days=DEFAULT_DAYS,
        longest_days=LONGEST_DAYS,
        most_uses=MOST_USES,
    )


def _terms(form: dict[str, str]) -> Terms:
    """Read what an invitation grants.

    Raises:
        RequestInvalid: naming the field, what was found and what was wanted.
    """
    label = form.get("label", "").strip()
    if len(label) > LONGEST_LABEL:
        raise RequestInvalid(f"the label has {len(label)} characters, wanted at most {LONGEST_LABEL}")
    return Terms(
        uses=_whole(form, "uses", most=MOST_USES) or 1,
        lifetime_seconds=(_whole(form, "days", most=LONGEST_DAYS) or DEFAULT_DAYS) * 86_400.0,
        rounds_per_day=_whole(form, "rounds_per_day", most=MOST_ROUNDS),
        label=label,
    )


def _whole(form: dict[str, str], name: str, *, most: int) -> int | None:
    text = form.get(name, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise RequestInvalid(f"{name} is {text[:40]!r}, wanted a whole number from 1 to {most:,}")
    return int(text)
