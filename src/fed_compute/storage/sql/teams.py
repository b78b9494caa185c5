"""Rows of teams and of who is in which."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from fed_compute.errors import AlreadyInTeam, TeamNameTaken
from fed_compute.ids import ClientId, Digest, TeamId
from fed_compute.rounds.records import Team
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.failures import unique_or
from fed_compute.storage.sql.rows import columns, inserted_id, record, values

_TEAM = columns(tables.teams, Team)
_T, _M = tables.teams.c, tables.team_members.c
_TEAM_OF = select(_M.team_id).where(_M.client_id == bindparam("client_id"))


class TeamRows:
    """Teams and their members. A client is in one team at most; the database enforces it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, team: Team) -> TeamId:
        """Insert a team and return its number.

        Raises:
            TeamNameTaken: if another team has the name.
        """
        row = {name: value for name, value in values(team).items() if name != "team_id"}
        with unique_or(TeamNameTaken(team.name)):
            return TeamId(inserted_id(self._connection.execute(insert(tables.teams).values(**row))))

    def find(
        self, *, name: str | None = None, code_digest: Digest | None = None, team_id: TeamId | None = None
    ) -> Team | None:
        """Return the team of this name, of this code, or of this number: exactly one of them is to be given."""
        (wanted,) = (
            column == value
            for column, value in ((_T.name, name), (_T.code_digest, code_digest), (_T.team_id, team_id))
            if value is not None
        )
        row = self._connection.execute(select(*_TEAM).where(wanted)).one_or_none()
        return None if row is None else record(Team, row)

    def team_of(self, client_id: ClientId) -> TeamId | None:
        """Return the number of a client's team."""
        return self._connection.execute(_TEAM_OF, {"client_id": client_id}).scalar()

    def names_of(self, clients: Sequence[ClientId]) -> Mapping[ClientId, str]:
        """Return the names of these clients' teams, for those that are in one."""
        query = select(_M.client_id, _T.name).join(tables.teams, _T.team_id == _M.team_id)
        return {client: name for client, name in self._connection.execute(query.where(_M.client_id.in_(clients)))}

    def page(self, *, limit: int, offset: int) -> list[tuple[Team, int]]:
        """Return teams by name, each with its number of members."""
        query = (
            select(*_TEAM, func.count(_M.client_id))
            .outerjoin(tables.team_members, _M.team_id == _T.team_id)
            .group_by(*_TEAM)
            .order_by(_T.name)
            .limit(limit)
            .offset(offset)
        )
        return [(Team(*row[:-1]), int(row[-1])) for row in self._connection.execute(query)]

    def count(self) -> int:
        """Return how many teams there are."""
        return self._connection.execute(select(func.count()).select_from(tables.teams)).scalar_one()

    def members(self, team_id: TeamId) -> list[tuple[ClientId, float]]:
        """Return the members of a team and when each joined, in the order of their joining."""
        query = select(_M.client_id, _M.joined_at).where(_M.team_id == team_id).order_by(_M.joined_at, _M.client_id)
        return [(client_id, joined_at) for client_id, joined_at in self._connection.execute(query)]

    def join(self, team_id: TeamId, client_id: ClientId, *, at: float) -> None:
        """Make a client a member.

        Raises:
            AlreadyInTeam: if it is a member of any team.
        """
        member = {"client_id": client_id, "team_id": team_id, "joined_at": at}
        with unique_or(AlreadyInTeam()):
            self._connection.execute(insert(tables.team_members).values(**member))

    def leave(self, client_id: ClientId) -> None:
        """End a client's membership. What it earned for the team stays the team's."""
        self._connection.execute(delete(tables.team_members).where(_M.client_id == client_id))

    def change(self, team_id: TeamId, *, founder: ClientId | None = None, code_digest: Digest | None = None) -> None:
        """Hand the team to another member, or give it another code."""
        changes = {"founder": founder, "code_digest": code_digest}
        given = {name: value for name, value in changes.items() if value is not None}
        self._connection.execute(update(tables.teams).where(_T.team_id == team_id).values(**given))
