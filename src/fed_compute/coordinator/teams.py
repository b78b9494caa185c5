"""Teams: clients who count together. Whoever has the code may join; what was earned for a team stays the team's."""

from dataclasses import dataclass, replace

from fed_compute.clock import Clock
from fed_compute.errors import NotInTeam, PermissionDenied, TeamNameInvalid, TeamNotFound
from fed_compute.ids import TEAM_NAME_RULE, ClientId, Digest, TeamId, is_team_name, new_team_code
from fed_compute.protocol.digests import sha256_hex
from fed_compute.rounds.records import Team
from fed_compute.storage.sql.store import Records, Store


@dataclass(frozen=True, slots=True)
class TeamView:
    """A team with its members, and when each joined, Unix seconds, in the order of their joining."""

    team: Team
    members: list[tuple[ClientId, float]]


class TeamDesk:
    """Founds teams, lets clients in and out. The code is shown once; only its digest is kept."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def found(self, client_id: ClientId, name: str) -> tuple[Team, str]:
        """Make a team with one member, its founder; return it with the code to join it.

        Raises:
            TeamNameInvalid, TeamNameTaken: if the name cannot be had.
            AlreadyInTeam: if the client is in a team.
        """
        if not is_team_name(name):
            raise TeamNameInvalid(name, rule=TEAM_NAME_RULE)
        code, now = new_team_code(), self._clock.now()
        with self._store.transaction() as records:
            team = Team(TeamId(0), name, _digest(code), founder=client_id, created_at=now)
            team = replace(team, team_id=records.teams.add(team))
            records.teams.join(team.team_id, client_id, at=now)
            self._note(records, "team_founded", team, client_id)
        return team, code

    def join(self, client_id: ClientId, code: str) -> Team:
        """Make a client a member of the team that has the code.

        Raises:
            TeamNotFound: if no team has it.
            AlreadyInTeam: if the client is in a team, that one too.
        """
        with self._store.transaction() as records:
            team = records.teams.find(code_digest=_digest(code))
            if team is None:
                raise TeamNotFound("no team has this code")
            records.teams.join(team.team_id, client_id, at=self._clock.now())
            self._note(records, "team_joined", team, client_id)
        return team

    def leave(self, client_id: ClientId) -> Team:
        """End a client's membership; a founder's place goes to whoever has been a member longest.

        Raises:
            NotInTeam: if the client is in no team.
        """
        with self._store.transaction() as records:
            team = _team_of(records, client_id)
            records.teams.leave(client_id)
            members = records.teams.members(team.team_id)
            if team.founder == client_id and members:
                records.teams.change(team.team_id, founder=members[0][0])
            self._note(records, "team_left", team, client_id)
        return team

    def renew_code(self, client_id: ClientId) -> tuple[Team, str]:
        """Give the founder's team another code; the old one lets nobody in any more.

        Raises:
            NotInTeam: if the client is in no team.
            PermissionDenied: if it is not the team's founder.
        """
        code = new_team_code()
        with self._store.transaction() as records:
            team = _team_of(records, client_id)
            if team.founder != client_id:
                raise PermissionDenied(scope="founder of the team")
            records.teams.change(team.team_id, code_digest=_digest(code))
        return team, code

    def view(self, name: str) -> TeamView:
        """Return one team.

        Raises:
            TeamNotFound: if there is none of this name.
        """
        with self._store.snapshot() as records:
            team = records.teams.find(name=name)
            if team is None:
                raise TeamNotFound(f"there is no team {name[:80]!r}")
            return TeamView(team, records.teams.members(team.team_id))

    def page(self, *, limit: int, offset: int) -> tuple[int, list[tuple[Team, int]]]:
        """Return how many teams there are, and some by name, each with its number of members."""
        with self._store.snapshot() as records:
            return records.teams.count(), records.teams.page(limit=limit, offset=offset)

    def _note(self, records: Records, kind: str, team: Team, client_id: ClientId) -> None:
        records.journal.append(kind, at=self._clock.now(), client_id=client_id, team=team.name)


def _team_of(records: Records, client_id: ClientId) -> Team:
    team_id = records.teams.team_of(client_id)
    team = None if team_id is None else records.teams.find(team_id=team_id)
    if team is None:
        raise NotInTeam()
    return team


def _digest(code: str) -> Digest:
    return Digest(sha256_hex(code.encode()))
