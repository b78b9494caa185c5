"""Invitations: counted, dated, revocable, and each remembers who stands for it."""

import sqlite3
from contextlib import closing

import pytest

from fed_compute.coordinator.invites import Terms
from fed_compute.coordinator.keys import InviteText, new_invite, parse_invite
from fed_compute.coordinator.task_assigner import Assignment, NothingToDo
from fed_compute.errors import ClientNameTaken, ClientNotFound, InviteInvalid, InviteNotFound
from fed_compute.ids import ClientId
from fed_compute.rounds.records import Client
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, tiny_job

DAY = 86_400.0


def invite(stand: Stand, **terms: object) -> str:
    return stand.core.invites.create(Terms(**terms), by="ops").text  # type: ignore[arg-type]


def come(stand: Stand, name: str, text: str) -> Client:
    """Register a client with an invitation."""
    registered = stand.core.registrar.register(name, invite=text)
    stand.keys[name] = registered.key
    with stand.core.store.snapshot() as records:
        client = records.clients.find(registered.client_id)
    assert client is not None
    return client


def used(stand: Stand, text: str) -> int:
    with stand.core.store.snapshot() as records:
        found = records.invites.find(text.split("_")[1])
    assert found is not None
    return found.used


def test_an_invitation_is_for_one_client_unless_it_says_more(stand: Stand) -> None:
    text = invite(stand)
    assert come(stand, "anna", text).invite_id == text.split("_")[1]
    with pytest.raises(InviteInvalid, match="used up"):
        come(stand, "bob", text)
    many = invite(stand, uses=3)
    for name in ("carl", "dora", "emil"):
        come(stand, name, many)
    with pytest.raises(InviteInvalid, match="used up"):
        come(stand, "fritz", many)


def test_a_refused_registration_uses_nothing_up(stand: Stand) -> None:
    text = invite(stand)
    stand.join("anna")
    with pytest.raises(ClientNameTaken):
        come(stand, "anna", text)
    assert used(stand, text) == 0
    come(stand, "bob", text)
    assert used(stand, text) == 1


def test_an_invitation_ends_on_its_day(stand: Stand) -> None:
    text = invite(stand, uses=2, lifetime_seconds=7 * DAY)
    stand.clock.advance(7 * DAY - 1)
    come(stand, "anna", text)
    stand.clock.advance(1)
    with pytest.raises(InviteInvalid, match="expired"):
        come(stand, "bob", text)


def test_a_revoked_invitation_opens_nothing_and_who_came_with_it_stays(stand: Stand) -> None:
    text = invite(stand, uses=2)
    come(stand, "anna", text)
    assert stand.core.invites.revoke(text.split("_")[1], by="ops").state == "revoked"
    with pytest.raises(InviteInvalid, match="revoked"):
        come(stand, "bob", text)
    assert stand.core.auth.require_client(stand.keys["anna"], "anna") == "anna"


@pytest.mark.parametrize("wrong", ["", "inv_", "nonsense", "x" * 200, new_invite().write()], ids=range(5))
def test_what_is_no_invitation_is_refused_without_being_repeated(stand: Stand, wrong: str) -> None:
    with pytest.raises(InviteInvalid, match="not known") as refusal:
        come(stand, "anna", wrong)
    assert not wrong or wrong not in refusal.value.message


def test_a_guess_at_a_known_invitation_learns_nothing_of_it(stand: Stand) -> None:
    """Whether it is used up or revoked is told to those who hold it."""
    real = parse_invite(invite(stand))
    assert real is not None
    stand.core.invites.revoke(real.invite_id, by="ops")
    with pytest.raises(InviteInvalid, match="not known"):
        come(stand, "anna", InviteText(real.invite_id, new_invite().secret).write())


def test_the_secret_is_never_written_to_the_database(durable: Stand) -> None:
    text = invite(durable, label="for the lab")
    with closing(sqlite3.connect(durable.core.data_dir.path / "coordinator.sqlite3")) as connection:
        dump = "\n".join(connection.iterdump())
    assert "for the lab" in dump
    assert text.split("_")[2][:22] not in dump


def test_an_invitation_outlives_a_new_pepper(open_stand: OpenStand) -> None:
    first = open_stand(database_url=None, pepper="0d" * 32)
    text = invite(first)
    first.close()
    second = open_stand(database_url=None, pepper="ee" * 32, previous_pepper="0d" * 32)
    assert come(second, "anna", text).client_id == "anna"


def test_an_inviter_has_to_be_a_client(stand: Stand) -> None:
    with pytest.raises(ClientNotFound):
        invite(stand, inviter=ClientId("nobody"))
    assert stand.core.invites.page(limit=10) == []


def test_an_invitation_of_a_client_that_was_shut_out_opens_nothing_until_it_is_let_in_again(stand: Stand) -> None:
    stand.join("anna")
    text = invite(stand, inviter=ClientId("anna"))
    stand.core.clients.ban(ClientId("anna"), reason=None, with_invited=False, by="ops")
    with pytest.raises(InviteInvalid, match="revoked"):
        come(stand, "bob", text)
    stand.core.clients.unban(ClientId("anna"), by="ops")
    assert come(stand, "bob", text).client_id == "bob"


def test_revoking_what_does_not_exist_is_told_and_revoking_twice_changes_nothing(stand: Stand) -> None:
    with pytest.raises(InviteNotFound):
        stand.core.invites.revoke("0000000000", by="ops")
    name = invite(stand).split("_")[1]
    first = stand.core.invites.revoke(name, by="ops")
    stand.clock.advance(5)
    assert stand.core.invites.revoke(name, by="ops") == first


def test_lists_are_pages_newest_first_with_the_state_of_each(stand: Stand) -> None:
    stand.join("anna")
    texts = []
    for number in range(5):
        stand.clock.advance(1)
        inviter = ClientId("anna") if number % 2 else None
        texts.append(invite(stand, inviter=inviter, lifetime_seconds=DAY if number == 0 else 30 * DAY))
    come(stand, "bob", texts[1])
    stand.core.invites.revoke(texts[2].split("_")[1], by="ops")
    stand.clock.advance(DAY)
    first = stand.core.invites.page(limit=3)
    rest = stand.core.invites.page(limit=3, after=first[-1].invite.invite_id)
    assert [view.state for view in (*first, *rest)] == ["open", "open", "revoked", "used_up", "expired"]
    mine = stand.core.invites.page(limit=9, inviter=ClientId("anna"))
    assert [view.invite.invite_id for view in mine] == [texts[3].split("_")[1], texts[1].split("_")[1]]


def test_a_quota_of_rounds_holds_for_each_client_that_came_with_the_invitation(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(target_updates=1, total=50, deadline_seconds=3600))
    text = invite(stand, uses=2, rounds_per_day=2)
    for name in ("anna", "bob"):
        come(stand, name, text)
        for _ in range(2):
            stand.report(name)
            stand.work()
    refused = stand.ask("anna")
    assert isinstance(refused, NothingToDo)
    assert (refused.reason, refused.window.start_seconds) == ("quota_used", 3600.0)
    stand.join("carl")
    assert isinstance(stand.ask("carl"), Assignment)


def test_a_days_quota_comes_back_after_a_day_and_not_at_midnight(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(target_updates=1, total=50))
    come(stand, "anna", invite(stand, rounds_per_day=1))
    stand.report("anna")
    stand.work()
    stand.clock.advance(DAY - 100)
    refused = stand.ask("anna")
    assert isinstance(refused, NothingToDo)
    assert refused.window.start_seconds == 100
    stand.clock.advance(100)
    assert isinstance(stand.ask("anna"), Assignment)


def test_a_lease_that_was_given_back_is_not_counted(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create()
    come(stand, "anna", invite(stand, rounds_per_day=1))
    for _ in range(3):
        assignment = stand.lease("anna")
        assert isinstance(stand.ask("anna"), Assignment), "the lease in hand is returned whatever the quota"
        stand.core.tasks.release(ClientId("anna"), assignment.task.task_id)
    stand.report("anna")


def test_a_quota_does_not_stop_evaluations(open_stand: OpenStand) -> None:
    """They cost little, and tell how good the model is."""
    stand = open_stand()
    stand.create(tiny_job(target_updates=1, sections={"evaluation": {"every_rounds": 1}}))
    come(stand, "anna", invite(stand, rounds_per_day=1))
    stand.report("anna")
    stand.work()
    assert stand.lease("anna").task.kind == "evaluate"
