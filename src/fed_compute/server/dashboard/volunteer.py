"""A volunteer's own page: what its machine did, earned, and had refused."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from fed_compute.ids import ClientId
from fed_compute.server.dashboard.lines import newest_lines
from fed_compute.server.dashboard.render import render
from fed_compute.server.dashboard.visitors import Visitor
from fed_compute.server.dependencies import Core

EVENTS = 100

router = APIRouter(include_in_schema=False)


@router.get("/ui/me")
def own_page(request: Request, core: Core, visitor: Visitor) -> Response:
    """Show a client that is logged in its own standing; everybody else how to log in."""
    client_id = None if visitor is None else visitor.principal.client_id
    if client_id is None:
        return render(request, "me.html", visitor, client=None)
    return render(
        request,
        "me.html",
        visitor,
        client=core.clients.view(ClientId(client_id)),
        reputation=core.reputation.of(client_id),
        balance=core.incentives.of(client_id),
        lines=newest_lines(core, visitor, limit=EVENTS, client_id=client_id),
    )
