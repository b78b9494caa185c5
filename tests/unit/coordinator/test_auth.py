"""Who may come in, as whom, and what a stranger learns: nothing."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from fed_compute.coordinator.auth import AuthManager, Principal
from fed_compute.coordinator.keys import KeyText, new_invite, new_key, parse_key
from fed_compute.errors import (
    AuthenticationFailed,
    ClientBanned,
    ClientNameInvalid,
    ClientNameTaken,
    ClientPending,
    PermissionDenied,
)
from fed_compute.ids import ClientId, is_client_name
from fed_compute.rounds.records import ApiKey, ClientState, Scope
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand


def test_a_new_client_gets_a_key_that_speaks_for_it(stand: Stand) -> None:
    client_id, key = stand.core.auth.register("anna")
    assert client_id == "anna"
    assert stand.core.auth.authenticate(key) == Principal(key[3:13], Scope.CLIENT, ClientId("anna"))
    assert [entry.client_id for entry in stand.journal("client_registered")] == ["anna"]


def test_a_client_without_a_name_is_given_one_of_its_own(stand: Stand) -> None:
    names = {stand.core.auth.register(None)[0] for _ in range(20)}
    assert len(names) == 20
    assert all(is_client_name(name) for name in names)


@pytest.mark.parametrize("name", ["", " ", "a b", "-x", "ä", "x" * 65, "a\n", "../x", "a/b"])
def test_a_name_that_cannot_be_used_is_refused_and_leaves_nothing(stand: Stand, name: str) -> None:
    before = stand.journal()
    with pytest.raises(ClientNameInvalid, match="letters, digits, dot, dash, underscore"):
        stand.core.auth.register(name)
    assert stand.journal() == before


def test_a_name_is_given_once_and_its_first_key_stays_good(stand: Stand) -> None:
    _, key = stand.core.auth.register("anna")
    with pytest.raises(ClientNameTaken):
        stand.core.auth.register("anna")
    assert stand.core.auth.require_client(key, "anna") == "anna"
    assert len(stand.journal("client_registered")) == 1


def bad_keys(stand: Stand) -> dict[str, str | None]:
    """Return keys that must not open anything: missing, malformed, unknown, revoked, of a wrong secret."""
    good = parse_key(stand.core.auth.register("victim")[1])
    revoked = stand.core.auth.issue_operator_key()
    stand.core.auth.issue_operator_key()
    assert good is not None
    return {
        "missing": None,
        "empty": "",
        "malformed": "sk_x",
        "unknown": new_key().write(),
        "wrong secret": KeyText(good.key_id, new_key().secret).write(),
        "revoked": revoked,
    }


def test_every_bad_key_gets_the_same_answer(stand: Stand) -> None:
    """What differs between two answers is what a guess learns."""
    answers = {}
    for name, key in bad_keys(stand).items():
        for act in (stand.core.auth.authenticate, stand.core.auth.require_operator):
            with pytest.raises(AuthenticationFailed) as refusal:
                act(key)
            answers[name] = (refusal.value.message, refusal.value.details)
    assert len(set(map(str, answers.values()))) == 1


def test_a_foreign_key_gets_the_answer_of_a_bad_one(stand: Stand) -> None:
    stand.join("anna", "bob")
    with pytest.raises(AuthenticationFailed) as foreign:
        stand.core.auth.require_client(stand.keys["bob"], "anna")
    with pytest.raises(AuthenticationFailed) as unknown:
        stand.core.auth.require_client(new_key().write(), "anna")
    assert foreign.value.message == unknown.value.message


def test_an_operators_key_opens_no_clients_door_and_the_other_way_round(stand: Stand) -> None:
    stand.join("anna")
    key = stand.core.auth.issue_operator_key()
    with pytest.raises(AuthenticationFailed):
        stand.core.auth.require_client(key, "anna")
    with pytest.raises(PermissionDenied):
        stand.core.auth.require_operator(stand.keys["anna"])


def test_a_rotated_operator_key_is_good_at_once_and_the_old_one_is_not(stand: Stand) -> None:
    old = stand.core.auth.issue_operator_key()
    stand.core.auth.require_operator(old)
    new = stand.core.auth.issue_operator_key()
    stand.core.auth.require_operator(new)
    with pytest.raises(AuthenticationFailed):
        stand.core.auth.require_operator(old)


def test_rotating_the_operators_key_leaves_the_clients_keys(stand: Stand) -> None:
    stand.join("anna")
    stand.core.auth.issue_operator_key()
    assert stand.core.auth.require_client(stand.keys["anna"], "anna") == "anna"


def test_there_is_one_first_operator_key(stand: Stand) -> None:
    assert stand.core.auth.first_operator_key() is None  # the start has made one already


def test_an_operators_key_that_could_not_be_kept_is_not_on_record_and_the_old_one_stays_good(stand: Stand) -> None:
    """Otherwise a full disk or a crash would leave a coordinator that nobody can operate."""
    old = stand.core.auth.issue_operator_key()

    def fail(text: str) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        stand.core.auth.issue_operator_key(keep=fail)
    stand.core.auth.require_operator(old)


def test_a_key_of_another_pepper_is_unknown(stand: Stand) -> None:
    """Whoever steals the database without the pepper cannot make keys for it."""
    _, key = AuthManager(stand.core.store, stand.clock, pepper=b"another" * 5).register("anna")
    with pytest.raises(AuthenticationFailed):
        stand.core.auth.authenticate(key)


def test_no_secret_is_ever_written_to_the_database(durable: Stand) -> None:
    durable.join("anna")
    keys = [durable.keys["anna"], durable.core.auth.issue_operator_key()]
    secrets = [parsed.secret for key in keys if (parsed := parse_key(key)) is not None]
    with closing(sqlite3.connect(durable.core.data_dir.path / "coordinator.sqlite3")) as connection:
        dump = "\n".join(connection.iterdump())
    assert "anna" in dump
    assert [secret for secret in secrets if secret in dump] == []


def test_keys_go_on_after_a_restart(durable: Stand) -> None:
    durable.join("anna")
    key = durable.core.data_dir.operator_key.read_text().strip()
    durable.restart()
    assert durable.core.auth.require_client(durable.keys["anna"], "anna") == "anna"
    durable.core.auth.require_operator(key)


def test_an_observer_reads_what_an_operator_reads_and_operates_nothing(stand: Stand) -> None:
    stand.join("anna")
    observer = stand.core.keys.issue("observer", label="", lifetime_seconds=None, by="test").text
    assert stand.core.auth.require_observer(observer).scope is Scope.OBSERVER
    assert stand.core.auth.require_observer(stand.core.auth.issue_operator_key()).scope is Scope.OPERATOR
    with pytest.raises(PermissionDenied, match="'operator'"):
        stand.core.auth.require_operator(observer)
    with pytest.raises(PermissionDenied, match="'observer'"):
        stand.core.auth.require_observer(stand.keys["anna"])
    with pytest.raises(AuthenticationFailed):
        stand.core.auth.require_client(observer, "anna")


@pytest.mark.parametrize(
    "secret", [new_key().write(), new_invite().write(), "sk_ab12_S3cret"], ids=["key", "invite", "short"]
)
def test_a_secret_that_was_pasted_as_a_name_becomes_none(stand: Stand, secret: str) -> None:
    """Names are shown to everybody."""
    with pytest.raises(ClientNameInvalid) as refusal:
        stand.core.auth.register(secret)
    assert secret not in f"{refusal.value.message} {refusal.value.details}"


def test_the_key_of_a_client_that_waits_opens_nothing_but_its_name(stand: Stand) -> None:
    key = pending(stand, "anna")
    assert stand.core.auth.identify(key).is_pending
    for act in (stand.core.auth.authenticate, stand.core.auth.require_operator):
        with pytest.raises(ClientPending):
            act(key)
    with pytest.raises(ClientPending):
        stand.core.auth.require_client(key, "anna")


def test_the_key_of_a_client_that_was_shut_out_opens_nothing(stand: Stand) -> None:
    stand.join("anna")
    stand.core.clients.ban(ClientId("anna"), reason=None, with_invited=False, by="test")
    for act in (stand.core.auth.identify, stand.core.auth.authenticate, stand.core.auth.require_observer):
        with pytest.raises(ClientBanned):
            act(stand.keys["anna"])


def test_a_wrong_key_does_not_tell_that_its_client_was_shut_out(stand: Stand) -> None:
    """Only who holds the key learns anything about its owner."""
    stand.join("anna")
    stand.core.clients.ban(ClientId("anna"), reason=None, with_invited=False, by="test")
    good = parse_key(stand.keys["anna"])
    assert good is not None
    with pytest.raises(AuthenticationFailed):
        stand.core.auth.identify(KeyText(good.key_id, new_key().secret).write())


def test_the_use_of_a_key_is_recorded_and_a_wrong_secret_is_no_use(stand: Stand) -> None:
    stand.join("anna")
    key_id = stand.keys["anna"][3:13]
    with pytest.raises(AuthenticationFailed):
        stand.core.auth.authenticate(KeyText(key_id, new_key().secret).write())
    stand.core.presence.flush()
    assert stored_key(stand, key_id).last_used_at is None
    stand.clock.advance(10)
    stand.core.auth.authenticate(stand.keys["anna"])
    used_at = stand.clock.now()
    stand.clock.advance(10)
    stand.core.presence.flush()
    assert stored_key(stand, key_id).last_used_at == used_at


OLD, NEW = "0d" * 32, "ee" * 32


def test_keys_move_to_a_new_pepper_when_they_are_used_and_the_old_one_can_then_go(open_stand: OpenStand) -> None:
    """A pepper that may have leaked is replaced without handing out a single key anew."""
    first = open_stand(database_url=None, pepper=OLD)
    first.join("anna", "bob")
    keys = first.keys
    first.close()
    between = open_stand(database_url=None, pepper=NEW, previous_pepper=OLD)
    for _ in range(2):
        assert between.core.auth.require_client(keys["anna"], "anna") == "anna"
    between.close()
    last = open_stand(database_url=None, pepper=NEW)
    assert last.core.auth.require_client(keys["anna"], "anna") == "anna"
    with pytest.raises(AuthenticationFailed):
        last.core.auth.require_client(keys["bob"], "bob")  # was not used in between


def test_a_pepper_moved_aside_in_the_data_folder_is_the_previous_one(durable: Stand) -> None:
    durable.join("anna")
    operator = durable.core.data_dir.operator_key.read_text().strip()
    folder = durable.core.data_dir
    old = folder.pepper_file.read_text()
    folder.pepper_file.rename(folder.previous_pepper_file)
    durable.restart()
    assert folder.pepper_file.read_text() != old
    durable.core.auth.require_operator(operator)
    assert durable.core.auth.require_client(durable.keys["anna"], "anna") == "anna"
    folder.previous_pepper_file.unlink()
    durable.restart()
    durable.core.auth.require_operator(operator)
    assert durable.core.auth.require_client(durable.keys["anna"], "anna") == "anna"


def pending(stand: Stand, name: str) -> str:
    """Register a client that has to be approved, and return its key."""
    _, key = stand.core.auth.admit(
        name, capabilities="{}", entry=lambda records, client: replace(client, state=ClientState.PENDING)
    )
    return key


def stored_key(stand: Stand, key_id: str) -> ApiKey:
    """Return what is on record of a key."""
    with stand.core.store.snapshot() as records:
        key = records.keys.find(key_id)
    assert key is not None
    return key
