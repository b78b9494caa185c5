"""A volunteer's own page: what its machine did, earned, and had refused, and what left it."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from fed_compute.coordinator.journal_pages import Wanted, journal_page
from fed_compute.coordinator.queries import credit_of, sent_by
from fed_compute.ids import ClientId
from fed_compute.server.dashboard.render import render
from fed_compute.server.dashboard.visitors import Visitor
from fed_compute.server.dependencies import Core

LINES = 50
UPDATES = 20

router = APIRouter(include_in_schema=False)


@router.get("/ui/me")
def own_page(request: Request, core: Core, visitor: Visitor) -> Response:
    """Show a client that is logged in its own standing; everybody else how to log in."""
    if visitor is None or visitor.principal.client_id is None:
        return render(request, "me.html", visitor, client=None)
    name = ClientId(visitor.principal.client_id)
    refused = journal_page(core.store, Wanted("update_refused", name), limit=LINES, for_staff=False).lines
    return render(
        request,
        "me.html",
        visitor,
        client=core.clients.view(name),
        reputation=core.reputation.of(name),
        balance=core.incentives.of(name, limit=1),
        credit=credit_of(core.store, name, limit=LINES),
        sent=sent_by(core.store, name, newest=UPDATES),
        refused=refused,
        lines=journal_page(core.store, Wanted(client_id=name), limit=LINES, for_staff=False).lines,
    )
