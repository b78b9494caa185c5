"""Pages that anybody may read and that are about nothing single: overview, leaderboard, teams, journal, health."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse

from fed_compute.coordinator.backlog import backlog_of
from fed_compute.coordinator.journal_pages import Wanted, journal_page
from fed_compute.coordinator.leaderboard import client_page, team_page, team_total
from fed_compute.coordinator.overview import jobs_in_view, standings_of, updates_since
from fed_compute.coordinator.queries import population
from fed_compute.coordinator.sessions import Session
from fed_compute.coordinator.shown import NOT_FOR_STRANGERS
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.server.dashboard.condition import condition_of
from fed_compute.server.dashboard.render import render
from fed_compute.server.dashboard.visitors import PLAIN, Visitor
from fed_compute.server.dependencies import MAX_ROUND_ID, Core, State
from fed_compute.server.routes.community import TeamName

LATELY_SECONDS = 60.0
CARDS = 12
CURVES = 4
"""So many jobs are drawn over each other; more could not be told apart."""
PAGE_LENGTH = 50
LINES = 100
MEMBERS = 500

Offset = Annotated[int, Query(ge=0, le=2**31)]
Before = Annotated[int | None, Query(ge=1, le=MAX_ROUND_ID)]
Word = Annotated[str, Query(max_length=64, pattern=PLAIN)]

router = APIRouter(include_in_schema=False)


def overview(request: Request, core: Coordinator, visitor: Session | None) -> HTMLResponse:
    """Show the jobs that go on, who is here, and what was refused."""
    jobs, totals, now = jobs_in_view(core.store), core.metrics.totals(), core.clock.now()
    refusals = {kind.removeprefix("refused:"): n for kind, n in totals.items() if kind.startswith("refused:")}
    standings = standings_of(core.store, jobs[:CARDS])
    lately = updates_since(core.store, now - LATELY_SECONDS)
    return render(
        request,
        "overview.html",
        visitor,
        jobs=standings,
        num_jobs=len(jobs),
        curves=[standing.job.name for standing in standings if standing.rounds_closed][:CURVES],
        totals=totals,
        clients=population(core.store, seen_since=now - core.settings.active_seconds),
        backlog=backlog_of(core.store),
        updates_lately=lately,
        updates_per_second=lately / LATELY_SECONDS,
        refused=sum(refusals.values()),
        refusals=sorted(refusals.items(), key=lambda item: -item[1]),
    )


@router.get("/ui/leaderboard")
def leaderboard(
    request: Request,
    core: Core,
    visitor: Visitor,
    window: Literal["all", "week", "day"] = "all",
    offset: Offset = 0,
    teams_offset: Offset = 0,
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
        teams_offset=teams_offset,
        page_length=PAGE_LENGTH,
        clients=client_page(core.store, window=window, now=now, limit=PAGE_LENGTH, offset=offset),
        teams=team_page(core.store, window=window, now=now, limit=PAGE_LENGTH, offset=teams_offset),
    )


@router.get("/ui/teams/{name}")
def team(request: Request, core: Core, visitor: Visitor, name: TeamName) -> HTMLResponse:
    """Show one team, its members, and what they earned for it."""
    view = core.teams.view(name)
    shown = view.members[:MEMBERS]
    holdings = core.incentives.holdings_of([client_id for client_id, _ in shown])
    return render(
        request,
        "team.html",
        visitor,
        team=view.team,
        num_members=len(view.members),
        members=[(client_id, joined_at, holdings[client_id]) for client_id, joined_at in shown],
        earned=team_total(core.store, view.team.team_id),
    )


@router.get("/ui/events")
def events(
    request: Request,
    core: Core,
    visitor: Visitor,
    kind: Word = "",
    client: Word = "",
    job: Word = "",
    before: Before = None,
) -> HTMLResponse:
    """Show the journal, newest lines first: all, or those of a kind, a client, a job; and on, back in time."""
    wanted = Wanted(kind.strip() or None, client.strip() or None, job.strip() or None, before)
    is_staff = visitor is not None and visitor.is_staff
    hidden = frozenset[str]() if is_staff else NOT_FOR_STRANGERS
    return render(
        request,
        "events.html",
        visitor,
        page=journal_page(core.store, wanted, limit=LINES, for_staff=is_staff),
        wanted=wanted,
        kinds=sorted(name for name in core.metrics.totals() if ":" not in name and name not in hidden),
        jobs=[job.name for job in jobs_in_view(core.store)],
    )


@router.get("/ui/health")
def health(request: Request, state: State, visitor: Visitor) -> HTMLResponse:
    """Show whether requests are served, background duties succeed, and how much waits."""
    return render(request, "health.html", visitor, condition=condition_of(state))
