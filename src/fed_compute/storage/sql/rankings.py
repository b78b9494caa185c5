"""Who earned how much, in order: clients or teams, since the beginning or lately."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, Select, cast, func, select

from fed_compute.ids import TeamId
from fed_compute.rounds.bookkeeping import MINT
from fed_compute.storage.sql import tables

_G, _E, _A = tables.ledger_groups.c, tables.ledger_entries.c, tables.ledger_accounts.c


@dataclass(frozen=True, slots=True)
class Ranked:
    """One place. Whoever earned the same has the same rank, and the next one's tells how many are before it."""

    rank: int
    who: str
    micro_tokens: int


class RankingRows:
    """Sums over the ledger: what was granted and not taken back, pending credit included."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def clients(self, *, since: float | None, limit: int, offset: int) -> list[Ranked]:
        """Return the clients that earned most, from place `offset` on, at most `limit`."""
        if since is not None:
            return self._page(_recent(_G.client_id, since), limit, offset)
        balances = select(_A.client_id.label("who"), _A.micro_tokens).where(_A.account != MINT).subquery()
        return self._page(_summed(balances.c.who, balances.c.micro_tokens), limit, offset)

    def teams(self, *, since: float | None, limit: int, offset: int) -> list[Ranked]:
        """Return the teams whose members earned most while they were members; `who` is the team's name."""
        named = _recent(tables.teams.c.name, since, teams=True)
        return self._page(named, limit, offset)

    def count_clients(self, *, since: float | None) -> int:
        """Return how many clients earned something."""
        return self._count(_recent(_G.client_id, since))

    def count_teams(self, *, since: float | None) -> int:
        """Return how many teams earned something."""
        return self._count(_recent(tables.teams.c.name, since, teams=True))

    def team_total(self, team_id: TeamId) -> int:
        """Return what one team's members earned for it."""
        query = select(func.coalesce(func.sum(_E.micro_tokens), 0)).join_from(
            tables.ledger_groups, tables.ledger_entries, _E.group_id == _G.group_id
        )
        return int(self._connection.execute(query.where(_E.account != MINT, _G.team_id == team_id)).scalar_one())

    def _page(self, sums: Select[Any], limit: int, offset: int) -> list[Ranked]:
        found = sums.subquery().c
        rank = func.rank().over(order_by=found.total.desc())
        query = select(rank, found.who, found.total).order_by(found.total.desc(), found.who).limit(limit).offset(offset)
        return [Ranked(int(place), who, int(total)) for place, who, total in self._connection.execute(query)]

    def _count(self, sums: Select[Any]) -> int:
        return self._connection.execute(select(func.count()).select_from(sums.subquery())).scalar_one()


def _recent(who: Any, since: float | None, *, teams: bool = False) -> Select[Any]:
    query = _summed(who, _E.micro_tokens).join_from(
        tables.ledger_groups, tables.ledger_entries, _E.group_id == _G.group_id
    )
    if teams:
        query = query.join(tables.teams, tables.teams.c.team_id == _G.team_id)
    query = query.where(_E.account != MINT)
    return query if since is None else query.where(_G.at >= since)


def _summed(who: Any, micro_tokens: Any) -> Select[Any]:
    total = cast(func.sum(micro_tokens), BigInteger).label("total")
    return select(who.label("who"), total).group_by(who)
