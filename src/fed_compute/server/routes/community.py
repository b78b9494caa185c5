"""The leaderboard and teams."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response

from fed_compute.coordinator.leaderboard import client_page, team_page, team_total
from fed_compute.errors import AlreadyInTeam, NotInTeam, PermissionDenied, TeamNameInvalid, TeamNameTaken, TeamNotFound
from fed_compute.protocol.messages import (
    JoinTeamRequest,
    LeaderboardAnswer,
    PlaceAnswer,
    TeamPlaceAnswer,
    TeamRequest,
)
from fed_compute.server.bodies import json_body
from fed_compute.server.credit_answers import (
    MICRO_TOKENS,
    MemberAnswer,
    MembershipAnswer,
    TeamAnswer,
    TeamCodeAnswer,
    TeamDetailsAnswer,
    TeamsAnswer,
)
from fed_compute.server.dependencies import Core, SignedIn
from fed_compute.server.documentation import BODY, CLIENT, DISK, RECORDS, refusals, takes_json

LONGEST_PAGE = 200

Limit = Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="Places on the page.")]
Offset = Annotated[int, Query(ge=0, le=2**31, description="Places before the page.")]
TeamName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$", description="The team's name.")]

router = APIRouter(tags=["community"])


@router.get("/leaderboard", summary="Get who earned most", responses=refusals(*RECORDS))
def leaderboard(
    core: Core,
    window: Annotated[
        Literal["all", "week", "day"], Query(description="Since the beginning, or in the last 7 days or 24 hours.")
    ] = "all",
    of: Annotated[Literal["clients", "teams"], Query(description="Whose places.")] = "clients",
    limit: Limit = 50,
    offset: Offset = 0,
) -> LeaderboardAnswer:
    """Return clients or teams by what was granted to them and not taken back, pending credit included."""
    core.incentives.catch_up()
    now = core.clock.now()
    if of == "teams":
        teams = team_page(core.store, window=window, now=now, limit=limit, offset=offset)
        places = [
            TeamPlaceAnswer(rank=p.rank, name=p.who, tokens=p.micro_tokens / MICRO_TOKENS, micro_tokens=p.micro_tokens)
            for p in teams.places
        ]
        return LeaderboardAnswer(
            window=window, since=teams.since, total=teams.total, offset=offset, clients=[], teams=places
        )
    page = client_page(core.store, window=window, now=now, limit=limit, offset=offset)
    clients = [
        PlaceAnswer(
            rank=place.ranked.rank,
            name=place.ranked.who,
            team=place.team,
            tokens=place.ranked.micro_tokens / MICRO_TOKENS,
            micro_tokens=place.ranked.micro_tokens,
            pending_tokens=place.pending / MICRO_TOKENS,
            recent_average=place.recent_average,
            updates_counted=place.updates_counted,
        )
        for place in page.places
    ]
    return LeaderboardAnswer(
        window=window, since=page.since, total=page.total, offset=offset, clients=clients, teams=[]
    )


@router.get("/teams", summary="Get the teams", responses=refusals(*RECORDS))
def teams(core: Core, limit: Limit = 50, offset: Offset = 0) -> TeamsAnswer:
    """Return teams by name."""
    total, page = core.teams.page(limit=limit, offset=offset)
    answers = [
        TeamAnswer(name=team.name, founder=team.founder, created_at=team.created_at, num_members=num_members)
        for team, num_members in page
    ]
    return TeamsAnswer(total=total, offset=offset, teams=answers)


@router.post(
    "/teams",
    status_code=201,
    summary="Found a team and get its code, once",
    responses=refusals(*RECORDS, *DISK, *CLIENT, *BODY, TeamNameInvalid, TeamNameTaken, AlreadyInTeam),
    openapi_extra=takes_json(TeamRequest),
)
def found_team(
    core: Core,
    client_id: SignedIn,
    response: Response,
    body: Annotated[TeamRequest, Depends(json_body(TeamRequest))],
) -> TeamCodeAnswer:
    """Make a team with one member. Whoever is told its code may join; nobody is in two teams."""
    team, code = core.teams.found(client_id, body.name)
    response.headers["Cache-Control"] = "no-store"
    return TeamCodeAnswer(name=team.name, code=code)


@router.post(
    "/teams/join",
    summary="Join a team by its code",
    responses=refusals(*RECORDS, *DISK, *CLIENT, *BODY, TeamNotFound, AlreadyInTeam),
    openapi_extra=takes_json(JoinTeamRequest),
)
def join_team(
    core: Core, client_id: SignedIn, body: Annotated[JoinTeamRequest, Depends(json_body(JoinTeamRequest))]
) -> MembershipAnswer:
    """Make the client a member. From now on, what it earns counts for the team too."""
    team = core.teams.join(client_id, body.code)
    return MembershipAnswer(name=team.name, client_id=client_id, is_member=True)


@router.delete("/teams/membership", summary="Leave one's team", responses=refusals(*RECORDS, *DISK, *CLIENT, NotInTeam))
def leave_team(core: Core, client_id: SignedIn) -> MembershipAnswer:
    """End the client's membership. What it earned for the team stays the team's."""
    team = core.teams.leave(client_id)
    return MembershipAnswer(name=team.name, client_id=client_id, is_member=False)


@router.post(
    "/teams/code",
    summary="Replace the code of one's team",
    responses=refusals(*RECORDS, *DISK, *CLIENT, PermissionDenied, NotInTeam),
)
def renew_code(core: Core, client_id: SignedIn, response: Response) -> TeamCodeAnswer:
    """Give the team another code, for its founder. The old one lets nobody in any more."""
    team, code = core.teams.renew_code(client_id)
    response.headers["Cache-Control"] = "no-store"
    return TeamCodeAnswer(name=team.name, code=code)


@router.get("/teams/{name}", summary="Get one team", responses=refusals(*RECORDS, TeamNotFound))
def team(core: Core, name: TeamName) -> TeamDetailsAnswer:
    """Return a team, its members, and what they earned for it."""
    core.incentives.catch_up()
    view = core.teams.view(name)
    earned = team_total(core.store, view.team.team_id)
    return TeamDetailsAnswer(
        name=view.team.name,
        founder=view.team.founder,
        created_at=view.team.created_at,
        num_members=len(view.members),
        tokens=earned / MICRO_TOKENS,
        micro_tokens=earned,
        members=[MemberAnswer(client_id=client_id, joined_at=joined_at) for client_id, joined_at in view.members],
    )
