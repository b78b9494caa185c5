"""Keys in an operator's hands: issued, renewed with an overlap, revoked at once."""

import json
from collections.abc import Callable

import pytest

from fed_compute.errors import AuthenticationFailed, ClientNotFound, KeyEnded, KeyNotFound, LastOperatorKey
from fed_compute.ids import ClientId
from fed_compute.rounds.records import ApiKey, Scope
from tests.unit.coordinator.stand import Stand

HOUR, DAY = 3600.0, 86_400.0


def opens(stand: Stand, key: str) -> bool:
    """Say whether a key opens anything now."""
    try:
        stand.core.auth.authenticate(key)
    except AuthenticationFailed:
        return False
    return True


def id_of(key: str) -> str:
    return key.split("_")[1]


def operator(stand: Stand) -> str:
    """Return the operator's key of the data folder."""
    return stand.core.data_dir.operator_key.read_text().strip()


def on_record(stand: Stand, key: str) -> ApiKey:
    with stand.core.store.snapshot() as records:
        found = records.keys.find(id_of(key))
    assert found is not None
    return found


def rotate(stand: Stand, key: str, hours: float = 24.0) -> str:
    return stand.core.keys.rotate(id_of(key), overlap_seconds=hours * HOUR, by="test").text


def test_an_issued_key_is_good_until_its_end_and_not_a_moment_longer(stand: Stand) -> None:
    issued = stand.core.keys.issue("observer", label="wall display", lifetime_seconds=30 * DAY, by="ops")
    assert (issued.key.scope, issued.key.label) == (Scope.OBSERVER, "wall display")
    stand.clock.advance(30 * DAY - 1)
    assert opens(stand, issued.text)
    stand.clock.advance(1)
    assert not opens(stand, issued.text)


def test_both_keys_are_good_for_the_overlap_and_then_only_the_new_one(stand: Stand) -> None:
    stand.join("anna")
    old = stand.keys["anna"]
    new = rotate(stand, old, hours=24)
    for _ in range(2):
        assert stand.core.auth.require_client(old, "anna") == stand.core.auth.require_client(new, "anna") == "anna"
        stand.clock.advance(12 * HOUR - 1)
    stand.clock.advance(2)
    assert not opens(stand, old)
    assert opens(stand, new)


def test_without_an_overlap_the_old_key_ends_at_once(stand: Stand) -> None:
    stand.join("anna")
    new = rotate(stand, stand.keys["anna"], hours=0)
    assert not opens(stand, stand.keys["anna"])
    assert opens(stand, new)


def test_a_successor_has_owner_scope_label_and_lifetime_of_the_key_before(stand: Stand) -> None:
    old = stand.core.keys.issue("operator", label="ann", lifetime_seconds=30 * DAY, by="ops").text
    stand.clock.advance(10 * DAY)
    new = on_record(stand, rotate(stand, old))
    assert (new.scope, new.label, new.client_id) == (Scope.OPERATOR, "ann", None)
    assert new.expires_at == stand.clock.now() + 30 * DAY
    assert on_record(stand, old).rotated_to == new.key_id


def test_an_overlap_never_lengthens_a_keys_life(stand: Stand) -> None:
    old = stand.core.keys.issue("observer", label="", lifetime_seconds=HOUR, by="ops").text
    rotate(stand, old, hours=24)
    stand.clock.advance(HOUR)
    assert not opens(stand, old)


def test_a_client_has_at_most_two_live_keys(stand: Stand) -> None:
    """A thief of an old key must not be able to keep a third one beside the owner's."""
    stand.join("anna")
    first = stand.keys["anna"]
    second = rotate(stand, first)
    third = rotate(stand, second)
    assert [opens(stand, key) for key in (first, second, third)] == [False, True, True]


def test_if_the_answer_with_the_new_key_was_lost_the_old_one_gets_another(stand: Stand) -> None:
    stand.join("anna")
    old = stand.keys["anna"]
    lost = rotate(stand, old, hours=24)
    stand.clock.advance(HOUR)
    new = rotate(stand, old, hours=24)
    assert [opens(stand, key) for key in (old, lost, new)] == [True, False, True]
    stand.clock.advance(23 * HOUR)
    assert not opens(stand, old), "asking twice lengthened the overlap"


def test_once_the_new_key_is_in_use_the_old_one_renews_nothing(stand: Stand) -> None:
    stand.join("anna")
    new = rotate(stand, stand.keys["anna"])
    stand.core.auth.authenticate(new)
    stand.core.presence.flush()
    with pytest.raises(KeyEnded, match="renewed already"):
        rotate(stand, stand.keys["anna"])
    assert opens(stand, new)


def test_an_ended_key_renews_nothing(stand: Stand) -> None:
    short = stand.core.keys.issue("observer", label="", lifetime_seconds=1, by="ops").text
    gone = stand.core.keys.issue("observer", label="", lifetime_seconds=None, by="ops").text
    stand.core.keys.revoke(id_of(gone), by="ops")
    stand.clock.advance(1)
    for key, found in ((short, "expired"), (gone, "revoked")):
        with pytest.raises(KeyEnded, match=found):
            rotate(stand, key)


def test_a_revoked_key_is_refused_at_its_next_request(stand: Stand) -> None:
    stand.join("anna")
    assert opens(stand, stand.keys["anna"])
    stand.core.keys.revoke(id_of(stand.keys["anna"]), by="ops")
    assert not opens(stand, stand.keys["anna"])


def test_revoking_twice_changes_nothing(stand: Stand) -> None:
    key = stand.core.keys.issue("observer", label="", lifetime_seconds=None, by="ops").text
    first = stand.core.keys.revoke(id_of(key), by="ops")
    stand.clock.advance(5)
    assert stand.core.keys.revoke(id_of(key), by="ops") == first
    assert len(stand.journal("key_revoked")) == 1


def test_the_last_operator_key_cannot_be_revoked(stand: Stand) -> None:
    """Nobody could let anybody in any more."""
    with pytest.raises(LastOperatorKey):
        stand.core.keys.revoke(id_of(operator(stand)), by="ops")
    stand.core.keys.issue("observer", label="", lifetime_seconds=None, by="ops")
    stand.core.keys.issue("operator", label="for a day", lifetime_seconds=DAY, by="ops")
    with pytest.raises(LastOperatorKey):
        stand.core.keys.revoke(id_of(operator(stand)), by="ops")
    stand.core.keys.issue("operator", label="for good", lifetime_seconds=None, by="ops")
    stand.core.keys.revoke(id_of(operator(stand)), by="ops")
    assert not opens(stand, operator(stand))


def test_an_operator_gives_a_client_that_lost_its_key_another(stand: Stand) -> None:
    stand.join("anna")
    issued = stand.core.keys.rotate_client(ClientId("anna"), overlap_seconds=0, by="ops")
    assert stand.core.auth.require_client(issued.text, "anna") == "anna"
    assert not opens(stand, stand.keys["anna"])
    stand.core.keys.revoke(issued.key.key_id, by="ops")
    again = stand.core.keys.rotate_client(ClientId("anna"), overlap_seconds=0, by="ops")
    assert stand.core.auth.require_client(again.text, "anna") == "anna"


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda s: s.core.keys.rotate("0000000000", overlap_seconds=0, by="ops"), KeyNotFound),
        (lambda s: s.core.keys.revoke("0000000000", by="ops"), KeyNotFound),
        (lambda s: s.core.keys.rotate_client(ClientId("nobody"), overlap_seconds=0, by="ops"), ClientNotFound),
    ],
)
def test_what_does_not_exist_is_told_as_such(
    stand: Stand, act: Callable[[Stand], object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        act(stand)


def test_every_act_is_in_the_journal_with_the_key_that_did_it_and_no_secret(stand: Stand) -> None:
    stand.join("anna")
    issued = stand.core.keys.issue("observer", label="x", lifetime_seconds=None, by="ops-key")
    renewed = rotate(stand, issued.text)
    stand.core.keys.revoke(id_of(renewed), by="ops-key")
    entries = stand.journal("key_issued", "key_rotated", "key_revoked")
    assert [entry.kind for entry in entries] == ["key_issued", "key_rotated", "key_revoked"]
    assert [json.loads(entry.payload)["key_id"] for entry in entries] == [issued.key.key_id] * 2 + [id_of(renewed)]
    assert {json.loads(entry.payload)["by"] for entry in entries} == {"ops-key", "test"}
    text = " ".join(entry.payload for entry in entries)
    assert all(key.split("_")[2] not in text for key in (issued.text, renewed))


def test_lists_are_pages_newest_first(stand: Stand) -> None:
    made = []
    for number in range(7):
        stand.clock.advance(number % 2)  # some are made at the same moment
        made.append(stand.core.keys.issue("observer", label=str(number), lifetime_seconds=None, by="ops").key.key_id)
    seen: list[str] = []
    while page := stand.core.keys.page(limit=3, after=seen[-1] if seen else None, scope="observer"):
        seen += [view.key.key_id for view in page]
    assert sorted(seen) == sorted(made)
    times = [on_record(stand, f"sk_{key_id}_x").created_at for key_id in seen]
    assert times == sorted(times, reverse=True)
    assert stand.core.keys.page(limit=3, after="unknown000") == []


def test_lists_can_be_narrowed(stand: Stand) -> None:
    stand.join("anna", "bob")
    owners = [view.key.client_id for view in stand.core.keys.page(client_id=ClientId("anna"))]
    assert owners == ["anna"]
    assert {view.key.scope for view in stand.core.keys.page(scope="operator")} == {Scope.OPERATOR}
    assert len(stand.core.keys.page(scope="client")) == 2
