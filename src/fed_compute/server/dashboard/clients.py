"""Pages about clients: the list, and one client with the reasons for its reputation."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from fed_compute.coordinator.journal_pages import Wanted, journal_page
from fed_compute.coordinator.queries import population, sent_by
from fed_compute.ids import ClientId
from fed_compute.server.dashboard.render import render
from fed_compute.server.dashboard.visitors import PLAIN, Visitor
from fed_compute.server.dependencies import ClientName, Core

PAGE_LENGTH = 50
LINES = 50

After = Annotated[str, Query(max_length=64, pattern=PLAIN)]

router = APIRouter(include_in_schema=False)


@router.get("/ui/clients")
def clients(
    request: Request,
    core: Core,
    visitor: Visitor,
    after: After = "",
    state: Literal["", "active", "pending", "banned"] = "",
) -> HTMLResponse:
    """Show clients by name, all or those of one state, with their reputation."""
    page = core.clients.page(limit=PAGE_LENGTH, after=ClientId(after) if after else None, state=state or None)
    reputations = core.reputation.of_some([client.client_id for client in page])
    now = core.clock.now()
    return render(
        request,
        "clients.html",
        visitor,
        rows=list(zip(page, reputations, strict=True)),
        state=state,
        after=after,
        more=page[-1].client_id if len(page) == PAGE_LENGTH else None,
        active_since=now - core.settings.active_seconds,
        population=population(core.store, seen_since=now - core.settings.active_seconds),
        now=now,
    )


@router.get("/ui/clients/{client_id}")
def client(request: Request, core: Core, visitor: Visitor, client_id: ClientName) -> HTMLResponse:
    """Show one client: its reputation with the reasons, what it sent, and what it did."""
    name = ClientId(client_id)
    is_staff = visitor is not None and visitor.is_staff
    return render(
        request,
        "client.html",
        visitor,
        client=core.clients.view(name),
        reputation=core.reputation.of(client_id),
        balance=core.incentives.of(client_id, limit=1),
        sent=sent_by(core.store, name, newest=0),
        lines=journal_page(core.store, Wanted(client_id=client_id), limit=LINES, for_staff=is_staff).lines,
        now=core.clock.now(),
    )
