"""The page of one round: a time line of every lease, and what each update counted."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from fed_compute.coordinator.queries import noted_in_round, view_round
from fed_compute.coordinator.shown import counted_in
from fed_compute.coordinator.timelines import timeline_of
from fed_compute.server.dashboard.render import render
from fed_compute.server.dashboard.visitors import Visitor
from fed_compute.server.dependencies import Core, RoundNumber

PAGE_LENGTH = 100

Offset = Annotated[int, Query(ge=0, le=2**31)]

router = APIRouter(include_in_schema=False)


@router.get("/ui/rounds/{round_id}")
def round_page(
    request: Request, core: Core, visitor: Visitor, round_id: RoundNumber, offset: Offset = 0
) -> HTMLResponse:
    """Show one round: its state, what each client did in it and when, and what its updates counted."""
    view, now = view_round(core.store, round_id), core.clock.now()
    noted, page = noted_in_round(core.store, round_id), slice(offset, offset + PAGE_LENGTH)
    longest = max(len(view.tasks), len(view.updates))
    return render(
        request,
        "round.html",
        visitor,
        view=view,
        timeline=timeline_of(view.round, view.tasks[page], noted, now=now),
        counted=counted_in(core.store, view)[page],
        refused=sum(entry.kind == "update_refused" for entry in noted),
        offset=offset,
        more=offset + PAGE_LENGTH if offset + PAGE_LENGTH < longest else None,
        now=now,
    )
