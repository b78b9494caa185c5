"""Clients in an operator's hands: approved, shut out, let in again."""

import json
from collections.abc import Callable

import pytest

from fed_compute.coordinator.invites import Terms
from fed_compute.coordinator.task_assigner import Assignment
from fed_compute.errors import (
    ClientBanned,
    ClientNotFound,
    ClientStateConflict,
    LeaseExpired,
)
from fed_compute.ids import ClientId
from fed_compute.rounds.records import RoundState, TaskState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, digest_of


def ban(stand: Stand, name: str, *, reason: str | None = None, with_invited: bool = False) -> list[str]:
    """Shut a client out; return who is shut out."""
    done = stand.core.clients.ban(ClientId(name), reason=reason, with_invited=with_invited, by="ops")
    return [client.client_id for client in done]


def invited(stand: Stand, inviter: str, *names: str) -> None:
    """Let clients come with an invitation on another one's word."""
    text = stand.core.invites.create(Terms(uses=len(names), inviter=ClientId(inviter)), by="ops").text
    for name in names:
        stand.keys[name] = stand.core.registrar.register(name, invite=text).key


def state_of(stand: Stand, name: str) -> str:
    return stand.core.clients.view(ClientId(name)).client.state


def test_a_ban_takes_the_live_lease_back(stand: Stand) -> None:
    stand.join("anna")
    assignment = stand.lease("anna")
    ban(stand, "anna")
    assert stand.task(assignment).state is TaskState.CANCELLED
    assert [json.loads(entry.payload)["task"] for entry in stand.journal("task_cancelled")] == ["train"]


def test_the_place_of_a_client_that_was_shut_out_is_free_again(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create()
    stand.join(*"abcde")
    for name in "abcd":
        stand.lease(name)
    assert not isinstance(stand.ask("e"), Assignment)
    ban(stand, "a")
    assert isinstance(stand.ask("e"), Assignment)


def test_a_round_does_not_wait_for_a_client_that_was_shut_out(stand: Stand) -> None:
    """It would stand open as long as the client kept knocking."""
    stand.join("anna", "bob")
    stand.report("anna")
    stand.lease("bob")
    ban(stand, "bob")
    stand.work()
    assert stand.round().state is RoundState.CLOSED


def test_an_update_that_is_on_its_way_when_its_client_is_shut_out_is_not_counted(stand: Stand) -> None:
    stand.join("anna")
    assignment = stand.lease("anna")
    body = body_for(assignment)
    admission = stand.core.pipeline.admit(stand.keys["anna"], assignment.task.task_id)
    path = stand.core.blobs.incoming("on-its-way")
    path.write_bytes(body)
    ban(stand, "anna")
    with pytest.raises(LeaseExpired):
        stand.core.pipeline.accept_file(admission, path, digest_of(body))
    path.unlink(missing_ok=True)
    assert stand.updates() == []


def test_a_client_that_is_shut_out_while_it_asks_gets_no_lease(stand: Stand) -> None:
    """Its key was good when it was looked at."""
    stand.join("anna")
    ban(stand, "anna")
    with pytest.raises(ClientBanned):
        stand.ask("anna")


def test_what_was_counted_stays_counted(stand: Stand) -> None:
    stand.join("anna")
    stand.report("anna")
    ban(stand, "anna")
    stand.work()
    assert [update.client_id for update in stand.updates()] == ["anna"]
    assert stand.versions()[-1].num_updates == 1


def test_a_whole_tree_of_invitations_is_cut_and_nobody_else(stand: Stand) -> None:
    stand.join("root", "bystander")
    invited(stand, "root", "child-1", "child-2")
    invited(stand, "child-1", "grandchild")
    invited(stand, "bystander", "friend")
    assert sorted(ban(stand, "root", with_invited=True)) == ["child-1", "child-2", "grandchild", "root"]
    assert {name: state_of(stand, name) for name in ("root", "child-1", "grandchild", "bystander", "friend")} == {
        "root": "banned",
        "child-1": "banned",
        "grandchild": "banned",
        "bystander": "active",
        "friend": "active",
    }
    assert len(stand.journal("client_banned")) == 4


def test_without_a_word_about_the_invited_only_the_named_one_is_shut_out(stand: Stand) -> None:
    stand.join("root")
    invited(stand, "root", "child")
    assert ban(stand, "root") == ["root"]
    assert state_of(stand, "child") == "active"


def test_who_was_shut_out_is_let_in_again_with_the_same_key(stand: Stand) -> None:
    stand.join("anna")
    ban(stand, "anna", reason="sends noise")
    assert stand.core.clients.view(ClientId("anna")).client.state_reason == "sends noise"
    client = stand.core.clients.unban(ClientId("anna"), by="ops")
    assert (client.state, client.state_reason) == ("active", None)
    assert stand.core.auth.require_client(stand.keys["anna"], "anna") == "anna"


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (lambda s: s.core.clients.ban(ClientId("anna"), reason="x", with_invited=True, by="ops"), "client_banned"),
        (lambda s: s.core.clients.approve(ClientId("anna"), by="ops"), "client_approved"),
    ],
    ids=["ban", "approve"],
)
def test_doing_it_twice_is_one_line_of_the_journal(
    open_stand: OpenStand, act: Callable[[Stand], object], kind: str
) -> None:
    stand = open_stand(registration="approval")
    stand.core.registrar.register("anna")
    act(stand)
    act(stand)
    assert [json.loads(entry.payload)["by"] for entry in stand.journal(kind)] == ["ops"]


def test_who_was_shut_out_is_not_approved_and_who_waits_is_not_let_in_again(open_stand: OpenStand) -> None:
    stand = open_stand(registration="approval")
    stand.core.registrar.register("anna")
    with pytest.raises(ClientStateConflict, match="is pending"):
        stand.core.clients.unban(ClientId("anna"), by="ops")
    ban(stand, "anna")
    with pytest.raises(ClientStateConflict, match="is banned"):
        stand.core.clients.approve(ClientId("anna"), by="ops")


@pytest.mark.parametrize(
    "act",
    [
        lambda s: s.core.clients.view(ClientId("nobody")),
        lambda s: s.core.clients.approve(ClientId("nobody"), by="ops"),
        lambda s: s.core.clients.unban(ClientId("nobody"), by="ops"),
        lambda s: ban(s, "nobody"),
    ],
    ids=["view", "approve", "unban", "ban"],
)
def test_a_client_that_does_not_exist_is_told_as_such(stand: Stand, act: Callable[[Stand], object]) -> None:
    with pytest.raises(ClientNotFound):
        act(stand)


def test_lists_are_pages_by_name_and_can_be_narrowed(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.join(*"abcdef")
    invited(stand, "a", "x", "y")
    ban(stand, "c")
    pages, after = [], None
    while page := stand.core.clients.page(limit=3, after=after):
        pages.append([client.client_id for client in page])
        after = page[-1].client_id
    assert pages == [["a", "b", "c"], ["d", "e", "f"], ["x", "y"]]
    assert [c.client_id for c in stand.core.clients.page(limit=9, state="banned")] == ["c"]
    assert [c.client_id for c in stand.core.clients.page(limit=9, inviter=ClientId("a"))] == ["x", "y"]
    invite_id = stand.core.clients.view(ClientId("x")).client.invite_id
    assert [c.client_id for c in stand.core.clients.page(limit=9, invite_id=invite_id)] == ["x", "y"]


def test_a_client_is_shown_with_its_lease_its_keys_and_both_ends_of_its_invitations(stand: Stand) -> None:
    stand.join("anna")
    invited(stand, "anna", "bob")
    invited(stand, "bob", "carl")
    assignment = stand.lease("bob")
    view = stand.core.clients.view(ClientId("bob"))
    assert view.invite is not None
    assert view.lease is not None
    assert (view.invite.inviter, view.invited, view.lease.task_id) == ("anna", ["carl"], assignment.task.task_id)
    assert [key.state for key in view.keys] == ["live"]
