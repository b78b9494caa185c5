"""Pages that anybody may read."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from starlette.responses import HTMLResponse

from fed_compute.coordinator.leaderboard import client_page, team_page
from fed_compute.coordinator.overview import course_of, standing_of_job, standings_of_jobs, updates_since
from fed_compute.coordinator.queries import population, view_round
from fed_compute.coordinator.recipes import spec_of
from fed_compute.coordinator.sessions import Session
from fed_compute.coordinator.shown import members_of
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.ids import ClientId
from fed_compute.server.dashboard.lines import newest_lines
from fed_compute.server.dashboard.render import render
from fed_compute.server.dashboard.visitors import Visitor
from fed_compute.server.dependencies import ClientName, Core, JobName, OfClient, RoundNumber, State

LATELY_SECONDS = 60.0
PAGE_LENGTH = 50
EVENTS = 200

Offset = Annotated[int, Query(ge=0, le=2**31)]

router = APIRouter(include_in_schema=False)


def overview(request: Request, core: Coordinator, visitor: Session | None) -> HTMLResponse:
    """Show every job, who is here, and what was refused."""
    jobs, totals, now = standings_of_jobs(core.store), core.metrics.totals(), core.clock.now()
    refusals = {kind.removeprefix("refused:"): n for kind, n in totals.items() if kind.startswith("refused:")}
    return render(
        request,
        "overview.html",
        visitor,
        jobs=jobs,
        totals=totals,
        clients=population(core.store, seen_since=now - core.settings.active_seconds),
        live_rounds=sum(standing.live is not None for standing in jobs),
        working=sum(standing.live.num_leased for standing in jobs if standing.live is not None),
        updates_lately=updates_since(core.store, now - LATELY_SECONDS),
        refused=sum(refusals.values()),
        refusals=sorted(refusals.items(), key=lambda item: -item[1]),
    )


@router.get("/ui/jobs/{name}")
def job(request: Request, core: Core, visitor: Visitor, name: JobName) -> HTMLResponse:
    """Show one job: how it stands, its curves, its rounds, its recipe."""
    standing = standing_of_job(core.store, core.jobs.named(name))
    recipe = spec_of(standing.job).model_dump(mode="json", exclude_defaults=True)
    return render(
        request,
        "job.html",
        visitor,
        standing=standing,
        points=course_of(core.store, standing.job.job_id),
        recipe=json.dumps(recipe, indent=2),
    )


@router.get("/ui/data/jobs/{name}")
def course(core: Core, name: JobName) -> JSONResponse:
    """Return the columns that a job's charts are drawn from."""
    points = course_of(core.store, core.jobs.named(name).job_id)
    names = ("accuracy", "loss", "train_loss", "num_updates")
    columns: dict[str, list[Any]] = {"round": [point.number for point in points]}
    columns |= {column: [getattr(point, column) for point in points] for column in names}
    return JSONResponse(columns, headers={"Cache-Control": "no-store"})


@router.get("/ui/rounds/{round_id}")
def round_page(request: Request, core: Core, visitor: Visitor, round_id: RoundNumber) -> HTMLResponse:
    """Show one round: its state, and what each client did in it."""
    view = view_round(core.store, round_id)
    return render(request, "round.html", visitor, view=view, members=members_of(core.store, view, core.clock.now()))


@router.get("/ui/clients")
def clients(request: Request, core: Core, visitor: Visitor, after: OfClient = None) -> HTMLResponse:
    """Show clients by name, with their reputation."""
    page = core.clients.page(limit=PAGE_LENGTH, after=None if after is None else ClientId(after))
    reputations = [core.reputation.of(client.client_id) for client in page]
    more = page[-1].client_id if len(page) == PAGE_LENGTH else None
    rows = list(zip(page, reputations, strict=True))
    return render(request, "clients.html", visitor, rows=rows, more=more, now=core.clock.now())


@router.get("/ui/clients/{client_id}")
def client(request: Request, core: Core, visitor: Visitor, client_id: ClientName) -> HTMLResponse:
    """Show one client: its reputation with the reasons, and what it did."""
    return render(
        request,
        "client.html",
        visitor,
        client=core.clients.view(ClientId(client_id)),
        reputation=core.reputation.of(client_id),
        lines=newest_lines(core, visitor, limit=PAGE_LENGTH, client_id=client_id),
    )


@router.get("/ui/leaderboard")
def leaderboard(
    request: Request, core: Core, visitor: Visitor, window: Literal["all", "week", "day"] = "all", offset: Offset = 0
) -> HTMLResponse:
    """Show who earned most, clients and teams."""
    core.incentives.catch_up()
    now = core.clock.now()
    return render(
        request,
        "leaderboard.html",
        visitor,
        window=window,
        offset=offset,
        page_length=PAGE_LENGTH,
        clients=client_page(core.store, window=window, now=now, limit=PAGE_LENGTH, offset=offset),
        teams=team_page(core.store, window=window, now=now, limit=PAGE_LENGTH, offset=0),
    )


@router.get("/ui/events")
def events(request: Request, core: Core, visitor: Visitor, kind: str = "", client: str = "") -> HTMLResponse:
    """Show the newest lines of the journal, all or those of one kind or one client."""
    lines = newest_lines(core, visitor, limit=EVENTS, kind=kind[:40] or None, client_id=client[:64] or None)
    return render(request, "events.html", visitor, lines=lines, kind=kind[:40], client=client[:64], limit=EVENTS)


@router.get("/ui/health")
def health(request: Request, state: State, visitor: Visitor) -> HTMLResponse:
    """Show whether requests are served and background duties succeed."""
    failing = sorted(state.coordinator.worker.failing())
    status = "draining" if state.news.closing else "failing" if failing else "ready"
    return render(request, "health.html", visitor, health=status, failing=failing)


@router.get("/ui/join")
def join(request: Request, core: Core, visitor: Visitor) -> HTMLResponse:
    """Show the line that a volunteer types."""
    return render(
        request, "join.html", visitor, url=str(request.base_url).rstrip("/"), policy=core.settings.registration.value
    )
