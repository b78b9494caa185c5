"""Teams: founded, joined by a code, left; nobody is in two."""

import pytest

from fed_compute.errors import (
    AlreadyInTeam,
    NotInTeam,
    PermissionDenied,
    TeamNameInvalid,
    TeamNameTaken,
    TeamNotFound,
)
from fed_compute.ids import ClientId
from tests.unit.coordinator.stand import Stand

ANNA, BOB, CARL = (ClientId(name) for name in ("anna", "bob", "carl"))


@pytest.fixture(autouse=True)
def _everybody(stand: Stand) -> None:
    stand.join(ANNA, BOB, CARL)


def members(stand: Stand, name: str = "foxes") -> list[str]:
    """Return who is in a team."""
    return [client_id for client_id, _ in stand.core.teams.view(name).members]


def test_a_founder_is_the_first_member_and_whoever_has_the_code_may_join(stand: Stand) -> None:
    team, code = stand.core.teams.found(ANNA, "foxes")
    stand.clock.advance(5)
    assert stand.core.teams.join(BOB, code) == team
    view = stand.core.teams.view("foxes")
    assert view.team.founder == ANNA
    assert view.members == [(ANNA, stand.clock.now() - 5), (BOB, stand.clock.now())]


def test_a_code_cannot_be_guessed_and_is_kept_as_a_digest_only(stand: Stand) -> None:
    codes = [stand.core.teams.found(client, f"team-{client}")[1] for client in (ANNA, BOB)]
    assert len(set(codes)) == 2
    assert all(len(code) == len("team_") + 24 for code in codes)
    with stand.core.store.snapshot() as records:
        kept = records.teams.page(limit=9, offset=0)
    assert not any(code in repr(kept) for code in codes)


def test_nobody_is_in_two_teams(stand: Stand) -> None:
    _, foxes = stand.core.teams.found(ANNA, "foxes")
    _, owls = stand.core.teams.found(BOB, "owls")
    for act in (
        lambda: stand.core.teams.join(ANNA, owls),
        lambda: stand.core.teams.join(ANNA, foxes),
        lambda: stand.core.teams.found(ANNA, "more"),
    ):
        with pytest.raises(AlreadyInTeam):
            act()
    assert (members(stand), members(stand, "owls")) == ([ANNA], [BOB])
    with pytest.raises(TeamNotFound):
        stand.core.teams.view("more")


def test_whoever_left_may_join_another_team(stand: Stand) -> None:
    _, foxes = stand.core.teams.found(ANNA, "foxes")
    stand.core.teams.found(BOB, "owls")
    assert stand.core.teams.leave(BOB).name == "owls"
    stand.core.teams.join(BOB, foxes)
    assert (members(stand), members(stand, "owls")) == ([ANNA, BOB], [])


def test_when_the_founder_leaves_the_oldest_member_takes_over(stand: Stand) -> None:
    _, code = stand.core.teams.found(ANNA, "foxes")
    for client in (CARL, BOB):
        stand.clock.advance(1)
        stand.core.teams.join(client, code)
    stand.core.teams.leave(ANNA)
    assert stand.core.teams.view("foxes").team.founder == CARL


@pytest.mark.parametrize("code", ["", "team_000000000000000000000000", "foxes"])
def test_a_wrong_code_lets_nobody_in(stand: Stand, code: str) -> None:
    stand.core.teams.found(ANNA, "foxes")
    with pytest.raises(TeamNotFound):
        stand.core.teams.join(BOB, code)
    assert members(stand) == [ANNA]


def test_a_new_code_ends_the_old_one_and_only_the_founder_may_ask_for_it(stand: Stand) -> None:
    _, old = stand.core.teams.found(ANNA, "foxes")
    stand.core.teams.join(BOB, old)
    with pytest.raises(PermissionDenied):
        stand.core.teams.renew_code(BOB)
    _, new = stand.core.teams.renew_code(ANNA)
    with pytest.raises(TeamNotFound):
        stand.core.teams.join(CARL, old)
    stand.core.teams.join(CARL, new)


def test_whoever_is_in_no_team_cannot_leave_one(stand: Stand) -> None:
    for act in (stand.core.teams.leave, stand.core.teams.renew_code):
        with pytest.raises(NotInTeam):
            act(ANNA)


def test_a_name_is_taken_once(stand: Stand) -> None:
    stand.core.teams.found(ANNA, "foxes")
    with pytest.raises(TeamNameTaken):
        stand.core.teams.found(BOB, "foxes")


@pytest.mark.parametrize("name", ["", "a" * 41, "with space", "-dash", "<b>", "naïve", "a/b"])
def test_a_name_that_could_not_stand_in_an_address_is_refused(stand: Stand, name: str) -> None:
    with pytest.raises(TeamNameInvalid):
        stand.core.teams.found(ANNA, name)
    assert stand.core.teams.page(limit=9, offset=0) == (0, [])


def test_teams_come_page_by_page_with_their_sizes(stand: Stand) -> None:
    _, code = stand.core.teams.found(ANNA, "owls")
    stand.core.teams.join(BOB, code)
    stand.core.teams.found(CARL, "foxes")
    total, page = stand.core.teams.page(limit=1, offset=1)
    assert (total, [(team.name, size) for team, size in page]) == (2, [("owls", 2)])


def test_each_act_is_in_the_journal(stand: Stand) -> None:
    _, code = stand.core.teams.found(ANNA, "foxes")
    stand.core.teams.join(BOB, code)
    stand.core.teams.leave(BOB)
    entries = stand.journal("team_founded", "team_joined", "team_left")
    assert [(entry.kind, entry.client_id) for entry in entries] == [
        ("team_founded", ANNA), ("team_joined", BOB), ("team_left", BOB),
    ]  # fmt: skip
