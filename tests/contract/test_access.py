"""What the records of keys, invitations and spent challenges promise, on every database, to one replica or two."""

from dataclasses import replace
from functools import partial

import alembic.command
import alembic.config
import pytest
from sqlalchemy import text

from fed_compute.errors import ClientBanned, InviteInvalid, RecordConflict
from fed_compute.ids import ClientId
from fed_compute.rounds.records import ClientState, Scope, TaskState
from fed_compute.storage.sql.database import MIGRATIONS
from fed_compute.storage.sql.store import Store
from tests.contract.conftest import Place
from tests.contract.crowd import at_once
from tests.contract.samples import NOW, add_job, client, invite, key, task_of


def test_a_key_comes_back_as_it_was_put_and_with_its_clients_standing(store: Store) -> None:
    full = replace(
        key("k2", "anna"), label="é", expires_at=NOW + 1 / 3, last_used_at=NOW + 1, rotated_to="k3", revoked_at=NOW + 2
    )
    with store.transaction() as records:
        records.clients.add(replace(client("anna"), state=ClientState.PENDING))
        for item in (key("k1"), key("k2", "anna")):
            records.keys.add(item)
        records.keys.put(full)
    with store.snapshot() as records:
        assert records.keys.find("k2") == full
        assert records.keys.with_state("k2") == (full, ClientState.PENDING)
        assert records.keys.with_state("k1") == (key("k1"), None)
        assert records.keys.with_state("k9") is records.keys.find("k9") is None
        assert records.keys.of_client(ClientId("anna")) == [full]
        assert records.keys.of_scope(Scope.OPERATOR) == [key("k1")]


def test_the_last_use_of_many_keys_is_written_at_once(store: Store) -> None:
    with store.transaction() as records:
        for name in ("k1", "k2", "k3"):
            records.keys.add(key(name))
        records.keys.mark_used({"k1": NOW + 5, "k3": NOW + 7, "unknown": NOW})
    with store.snapshot() as records:
        used = [records.keys.find(name) for name in ("k1", "k2", "k3")]
        assert [one and one.last_used_at for one in used] == [NOW + 5, None, NOW + 7]


def test_pages_of_keys_and_invitations_are_whole_though_many_were_made_at_one_moment(store: Store) -> None:
    with store.transaction() as records:
        for number in range(10):
            records.keys.add(replace(key(f"k{number}"), created_at=NOW + number // 4))
            records.invites.add(replace(invite(f"i{number}"), created_at=NOW + number // 4))
    with store.snapshot() as records:
        for name, page in (("key_id", records.keys.page), ("invite_id", records.invites.page)):
            seen: list[str] = []
            while items := page(limit=3, after=seen[-1] if seen else None):
                assert len(items) <= 3
                seen += [getattr(item, name) for item in items]
            letter = seen[0][0]
            assert seen == [f"{letter}{number}" for number in (9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]


def test_an_invitation_comes_back_as_it_was_put(store: Store) -> None:
    with store.transaction() as records:
        records.clients.add(client("anna"))
        records.invites.add(invite("i1", inviter="anna", uses=2))
        changed = replace(invite("i1", inviter="anna", uses=2), used=1, revoked_at=NOW + 1 / 3)
        records.invites.put(changed)
    with store.snapshot() as records:
        assert records.invites.find("i1") == changed
        assert records.invites.find("i2") is None
        assert records.invites.page(limit=9, inviter=ClientId("anna")) == [changed]


def test_an_invitation_is_never_used_more_often_than_it_allows(store: Store) -> None:
    """The database keeps this rule, whatever the code above it forgets."""

    def overuse() -> None:
        with store.transaction() as records:
            records.invites.add(invite("i1"))
            records.invites.put(replace(invite("i1"), used=2))

    with pytest.raises(RecordConflict):
        overuse()


def test_clients_can_be_listed_by_state_invitation_and_inviter(store: Store) -> None:
    with store.transaction() as records:
        records.clients.add(client("anna"))
        records.invites.add(invite("i1", inviter="anna", uses=9))
        records.clients.add(replace(client("bob"), invite_id="i1", rounds_per_day=4))
        records.clients.add(replace(client("carl"), invite_id="i1", state=ClientState.BANNED, state_reason="é"))
    with store.snapshot() as records:
        found = records.clients.find(ClientId("bob"))
        assert (found and found.rounds_per_day) == 4
        assert [c.client_id for c in records.clients.page(limit=2)] == ["anna", "bob"]
        assert [c.client_id for c in records.clients.page(limit=2, after=ClientId("bob"))] == ["carl"]
        assert [c.client_id for c in records.clients.page(limit=9, state=ClientState.BANNED)] == ["carl"]
        assert [c.client_id for c in records.clients.page(limit=9, invite_id="i1")] == ["bob", "carl"]
        assert [c.client_id for c in records.clients.page(limit=9, inviter=ClientId("anna"))] == ["bob", "carl"]
        assert [c.client_id for c in records.clients.invited_by([ClientId("anna")])] == ["bob", "carl"]
        assert records.clients.invited_by([]) == []


def test_a_client_that_may_not_take_part_is_not_waited_for(store: Store) -> None:
    with store.transaction() as records:
        for name, state in (("anna", ClientState.ACTIVE), ("bob", ClientState.BANNED), ("carl", ClientState.PENDING)):
            records.clients.add(replace(client(name), state=state))
    with store.snapshot() as records:
        assert records.clients.count(seen_since=NOW) == 1


def test_training_tasks_of_a_day_are_counted_without_those_given_back(store: Store) -> None:
    with store.transaction() as records:
        _, round_ = add_job(records, "anna", "bob")
        states = (TaskState.REPORTED, TaskState.EXPIRED, TaskState.RELEASED, TaskState.CANCELLED, TaskState.LATE)
        for number, state in enumerate(states):
            task = task_of(round_, "anna", name=f"t_{number}")
            records.tasks.add(replace(task, state=state, leased_at=NOW + number, ended_at=NOW + 9))
        records.tasks.add(task_of(round_, "bob"))
    with store.snapshot() as records:
        assert records.clients.trained_since(ClientId("anna"), NOW - 1) == (3, NOW)
        assert records.clients.trained_since(ClientId("anna"), NOW) == (2, NOW + 1)
        assert records.clients.trained_since(ClientId("carl"), 0.0) == (0, None)


def test_a_challenge_is_spent_once_whoever_comes_at_the_same_time(stores: tuple[Store, Store]) -> None:
    def spend(store: Store) -> None:
        with store.transaction() as records:
            records.challenges.spend("c1", expires_at=NOW + 60, now=NOW, refusal=ClientBanned())

    results = at_once([partial(spend, stores[number % 2]) for number in range(6)])
    assert sorted(type(result).__name__ for result in results) == ["ClientBanned"] * 5 + ["NoneType"]


def test_the_last_use_of_an_invitation_goes_to_one_of_those_who_come_at_the_same_time(
    stores: tuple[Store, Store],
) -> None:
    with stores[0].transaction() as records:
        records.invites.add(invite("i1", uses=2))

    def redeem(store: Store) -> None:
        with store.transaction() as records:
            found = records.invites.find("i1")
            assert found is not None
            if found.used >= found.uses:
                raise InviteInvalid("used up")
            records.invites.put(replace(found, used=found.used + 1))

    results = at_once([partial(redeem, stores[number % 2]) for number in range(6)])
    assert sorted(type(result).__name__ for result in results) == ["InviteInvalid"] * 4 + ["NoneType"] * 2


def test_a_database_of_the_version_before_keeps_its_clients_and_keys(place: Place) -> None:
    database = place.bare()
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.write() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0001")
        values = {"secret": "0" * 64, "now": NOW, "later": NOW + 1}
        for statement in (
            "INSERT INTO clients VALUES ('anna', '{}', :now, :now)",
            "INSERT INTO api_keys VALUES ('k1', :secret, 'operator', NULL, :now, NULL)",
            "INSERT INTO api_keys VALUES ('k2', :secret, 'client', 'anna', :now, :later)",
        ):
            connection.execute(text(statement), values)
    database.migrate()
    with Store(database).snapshot() as records:
        assert records.clients.all() == [replace(client("anna"), capabilities="{}")]
        assert records.keys.find("k1") == replace(key("k1"), label="operator.key")
        assert records.keys.find("k2") == replace(key("k2", "anna"), revoked_at=NOW + 1)
        assert records.invites.page(limit=9) == []
