"""Who may come in, as whom, and what a stranger learns: nothing."""

import sqlite3
from contextlib import closing

import pytest

from fed_compute.coordinator.auth import AuthManager, Principal
from fed_compute.coordinator.keys import KeyText, new_key, parse_key
from fed_compute.errors import AuthenticationFailed, ClientNameInvalid, ClientNameTaken, PermissionDenied
from fed_compute.ids import ClientId, is_client_name
from fed_compute.rounds.records import Scope
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
