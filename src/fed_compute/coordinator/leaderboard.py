"""Who earned most: clients or teams, since the beginning, this week or today."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fed_compute.coordinator.incentives import average_now, earners_of
from fed_compute.ids import ClientId, TeamId
from fed_compute.rounds.bookkeeping import escrow_of
from fed_compute.storage.sql.rankings import Ranked
from fed_compute.storage.sql.store import Records, Store

Window = Literal["all", "week", "day"]
WINDOW_SECONDS: Mapping[Window, float | None] = {"all": None, "week": 7 * 86_400.0, "day": 86_400.0}


@dataclass(frozen=True, slots=True)
class ClientPlace:
    """A client's place. `pending` is what it has in escrow now; `recent_average` is in tokens a day."""

    ranked: Ranked
    team: str | None
    pending: int
    recent_average: float
    updates_counted: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some places of a leaderboard of `total`. `since` is when its window began, Unix seconds."""

    total: int
    since: float | None


@dataclass(frozen=True, slots=True)
class ClientPage(Page):
    """Places of clients."""

    places: list[ClientPlace]


@dataclass(frozen=True, slots=True)
class TeamPage(Page):
    """Places of teams; `who` is the team's name."""

    places: list[Ranked]


def client_page(store: Store, *, window: Window, now: float, limit: int, offset: int) -> ClientPage:
    """Return clients by what they earned in a window that ends now: whatever was granted and not taken back."""
    since = _since(window, now)
    with store.snapshot() as records:
        ranked = records.rankings.clients(since=since, limit=limit, offset=offset)
        return ClientPage(records.rankings.count_clients(since=since), since, _places(records, ranked, now=now))


def team_page(store: Store, *, window: Window, now: float, limit: int, offset: int) -> TeamPage:
    """Return teams by what their members earned for them in a window that ends now."""
    since = _since(window, now)
    with store.snapshot() as records:
        places = records.rankings.teams(since=since, limit=limit, offset=offset)
        return TeamPage(records.rankings.count_teams(since=since), since, places)


def team_total(store: Store, team_id: TeamId) -> int:
    """Return what a team's members earned for it, in micro-tokens."""
    with store.snapshot() as records:
        return records.rankings.team_total(team_id)


def _since(window: Window, now: float) -> float | None:
    seconds = WINDOW_SECONDS[window]
    return None if seconds is None else now - seconds


def _places(records: Records, ranked: Sequence[Ranked], *, now: float) -> list[ClientPlace]:
    """Return what else is told of those on a page; asked for together, however many they are."""
    clients = [ClientId(place.who) for place in ranked]
    teams, earners = records.teams.names_of(clients), earners_of(records, clients)
    escrow = records.ledger.balances([escrow_of(client) for client in clients])
    return [
        ClientPlace(
            ranked=place,
            team=teams.get(client),
            pending=escrow.get(escrow_of(client), 0),
            recent_average=average_now(earners[client], now=now),
            updates_counted=earners[client].num_counted,
        )
        for client, place in zip(clients, ranked, strict=True)
    ]
