"""The checker of the invariants: it is silent on sound data and finds each planted damage."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fed_compute.coordinator.verify import verify_data_dir
from fed_compute.errors import DataDirUnusable, RoundOver, UpdateRefused
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, tiny_job


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with some of everything: rounds of each kind, late and refused updates, pay, a live lease."""
    stand = Stand(tmp_path_factory.mktemp("sound") / "data")
    aggregation, evaluation = {"server_optimizer": "adam"}, {"every_rounds": 1}
    stand.create(tiny_job(min_updates=2, sections={"aggregation": aggregation, "evaluation": evaluation}))
    stand.create(tiny_job("other"))
    stand.join("anna", "bob", "carl")
    for value in (0.1, 0.2):  # rounds that close
        idle = stand.lease("carl", evaluates=False)
        for place, name in enumerate(("anna", "bob")):
            assignment = stand.lease(name, evaluates=False)
            stand.send(name, assignment, body_for(assignment, value * (place + 1), samples=10 + place))
        with pytest.raises(RoundOver):
            stand.send("carl", idle, body_for(idle))
        stand.work()
    for name in ("anna", "bob", "carl"):
        task = stand.lease(name).task
        stand.core.evaluations.record(task.client_id, task.task_id, num_samples=5, loss=1.0, accuracy=0.5)
    assignment = stand.lease("anna")  # a round that is given up
    with pytest.raises(UpdateRefused):
        stand.send("anna", assignment, b"rubbish")
    stand.send("anna", assignment, body_for(assignment, 0.7))
    stand.lease("bob", heartbeats=False)
    stand.clock.advance(101)
    stand.work()
    stand.report("anna", 0.9)  # a round that goes on
    stand.lease("bob")
    stand.work()
    stand.close()
    return stand.core.data_dir.path


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound folder, to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "data"))


def run_sql(folder: Path, *statements: str) -> None:
    """Change the records behind the product's back."""
    with closing(sqlite3.connect(folder / "coordinator.sqlite3")) as connection, connection:
        for statement in statements:
            changed = connection.execute(statement)
            assert changed.rowcount != 0, f"changed nothing: {statement}"


def ask_sql(folder: Path, query: str) -> str:
    """Return one value of the records."""
    with closing(sqlite3.connect(folder / "coordinator.sqlite3")) as connection:
        return str(connection.execute(query).fetchone()[0])


def blob(folder: Path, query: str) -> Path:
    """Return the file of a blob that a query names."""
    digest = ask_sql(folder, query)
    return folder / "blobs" / digest[:2] / digest


def broken_checks(folder: Path) -> set[str]:
    """Return the names of the invariants that are found broken."""
    report = verify_data_dir(folder)
    assert all(check.looked_at > 0 for check in report.checks)
    return {check.name.split()[0] for check in report.checks if check.breaches}


def test_sound_data_has_no_breach(folder: Path) -> None:
    report = verify_data_dir(folder)
    assert report.breaches == ()
    assert [check.name.split()[0] for check in report.checks] == ["I1/I13", "I2/I3", "I4", "I5", "I6", "I8", "I9"]


def test_checking_changes_nothing(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "sqlite3-" not in path.name}
    verify_data_dir(folder)
    assert {path: path.read_bytes() for path in before} == before


def test_the_checker_runs_beside_a_working_coordinator(durable: Stand) -> None:
    durable.join("anna", "bob")
    durable.lease("anna")
    assert verify_data_dir(durable.core.data_dir.path).breaches == ()
    durable.report("anna")
    assert verify_data_dir(durable.core.data_dir.path).breaches == ()


def test_a_folder_without_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataDirUnusable, match="--data-dir"):
        verify_data_dir(tmp_path)


UPDATE = "SELECT digest FROM updates WHERE update_id = 1"
LATE_UPDATE = "SELECT digest FROM updates WHERE state = 'late'"
LIVE_UPDATE = "SELECT digest FROM updates ORDER BY update_id DESC"
FIRST_MODEL = "SELECT digest FROM versions WHERE version = 1"
LAST_MODEL = "SELECT digest FROM versions ORDER BY version DESC"
OPTIMIZER = "SELECT optimizer_digest FROM versions WHERE version = 3"


@pytest.mark.parametrize("damage", ["flipped bit", "cut", "gone"])
@pytest.mark.parametrize(
    ("query", "rebuilt"),
    [
        (UPDATE, True),
        (LATE_UPDATE, False),
        (LIVE_UPDATE, False),
        (FIRST_MODEL, True),
        (LAST_MODEL, True),
        (OPTIMIZER, True),
    ],
    ids=["update", "late update", "live update", "first model", "last model", "optimiser state"],
)
def test_a_damaged_blob_is_found(folder: Path, query: str, rebuilt: bool, damage: str) -> None:
    path = blob(folder, query)
    body = path.read_bytes()
    match damage:
        case "flipped bit":
            path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
        case "cut":
            path.write_bytes(body[:-1])
        case _:
            path.unlink()
    assert broken_checks(folder) == ({"I1/I13", "I6"} if rebuilt else {"I1/I13"})


def edit_manifest(old: str, new: str) -> Callable[[Path], None]:
    """Return a damage that replaces a part of the first manifest."""
    statement = "UPDATE versions SET manifest = replace(manifest, '{}', '{}') WHERE job_id = 1 AND version = 2"
    return sql(statement.format(old, new))


def sql(*statements: str) -> Callable[[Path], None]:
    """Return a damage that changes records."""
    return lambda folder: run_sql(folder, *statements)


def cook_the_books(*statements: str) -> Callable[[Path], None]:
    """Return a damage to the ledger, by somebody who first takes away what guards it."""
    guards = [
        f"DROP TRIGGER ledger_{table}_no_{act}" for table in ("groups", "entries") for act in ("update", "delete")
    ]
    return sql(*guards, *statements)


GROUP = (
    "INSERT INTO ledger_groups (group_id, idempotency_key, client_id, round_id, reason, at, kind, task_id, refers_to)"
)
TASK = "(SELECT task_id FROM updates WHERE update_id = 1)"


RECORDS: dict[str, tuple[set[str], Callable[[Path], None]]] = {
    "an update row is gone": ({"I2/I3", "I6", "I8", "I9"}, sql("DELETE FROM updates WHERE update_id = 1")),
    "an update that nobody sent": (
        {"I2/I3", "I8", "I9"},
        sql(
            "UPDATE sqlite_sequence SET seq = 99 WHERE name = 'updates'",
            "INSERT INTO updates SELECT 99, (SELECT task_id FROM tasks WHERE state = 'late' LIMIT 1), job_id, round_id,"
            " 'carl', base_version, state, digest, size_bytes, encoding, compression, num_samples, l2_norm, loss,"
            " received_at FROM updates WHERE update_id = 1",
        ),
    ),
    "an update weighs more than it was counted for": (
        {"I2/I3"},
        sql("UPDATE updates SET num_samples = 999 WHERE update_id = 1"),
    ),
    "an update weighs nothing": ({"I2/I3", "I6"}, sql("UPDATE updates SET num_samples = 0 WHERE update_id = 1")),
    "an update has another body": (
        {"I2/I3", "I6"},
        sql("UPDATE updates SET digest = (SELECT digest FROM updates WHERE update_id = 2) WHERE update_id = 1"),
    ),
    "an update started from an older version than its round takes": (
        {"I2/I3"},
        sql("UPDATE rounds SET base_version = 7 WHERE round_id = 1"),
    ),
    "an update started from another version than its lease": (
        {"I2/I3", "I6"},
        sql("UPDATE updates SET base_version = 2 WHERE update_id = 1"),
    ),
    "a late update counts as accepted": ({"I2/I3"}, sql("UPDATE updates SET state = 'accepted' WHERE state = 'late'")),
    "a counted update is called late": ({"I2/I3"}, sql("UPDATE updates SET state = 'late' WHERE update_id = 1")),
    "an acceptance is not in the journal": (
        {"I2/I3", "I8"},
        sql("DELETE FROM journal WHERE seq = (SELECT seq FROM journal WHERE kind = 'update_accepted' LIMIT 1)"),
    ),
    "a weight in a manifest is changed": ({"I2/I3", "I5", "I6"}, edit_manifest(",10]", ",11]")),
    "an update is left out of a manifest": ({"I2/I3", "I5", "I6"}, edit_manifest(",[2,", ",[77,")),
    "a manifest is in another order": (
        {"I2/I3", "I5"},
        sql(
            "UPDATE versions SET manifest = (SELECT json_group_array(json(value)) FROM"
            " (SELECT value FROM json_each(manifest) ORDER BY key DESC)) WHERE job_id = 1 AND version = 2"
        ),
    ),
    "a manifest is no manifest": (
        {"I2/I3", "I5", "I6"},
        sql("UPDATE versions SET manifest = 'gone' WHERE job_id = 1 AND version = 2"),
    ),
    "a manifest is of another form": (
        {"I2/I3", "I5", "I6"},
        sql("UPDATE versions SET manifest = '[[1,2]]' WHERE job_id = 1 AND version = 2"),
    ),
    "a manifest is emptied": (
        {"I2/I3", "I5", "I6"},
        sql("UPDATE versions SET manifest = '[]' WHERE job_id = 1 AND version = 2"),
    ),
    "a chain digest is changed": (
        {"I5"},
        sql("UPDATE versions SET chain = replace(chain, 'a', 'b') WHERE version = 3"),
    ),
    "a version has another parent": ({"I5"}, sql("UPDATE versions SET parent = 1 WHERE version = 3")),
    "a version has another model": (
        {"I5", "I6"},
        sql("UPDATE versions SET digest = (SELECT digest FROM versions WHERE version = 1) WHERE version = 3"),
    ),
    "a version is gone": ({"I2/I3", "I4", "I5", "I6"}, sql("DELETE FROM versions WHERE job_id = 1 AND version = 2")),
    "a round names another version as its result": (
        {"I4"},
        sql("UPDATE rounds SET result_version = 3 WHERE round_id = 1"),
    ),
    "a job's recipe cannot be read": ({"I2/I3", "I6"}, sql("UPDATE jobs SET spec = '{\"name\": 7}' WHERE job_id = 1")),
    "an update is of an encoding that nobody knows": (
        {"I6"},
        sql("UPDATE updates SET encoding = 'morse' WHERE update_id = 1"),
    ),
    "an update is of a compression that nobody knows": (
        {"I6"},
        sql("UPDATE updates SET compression = 'zip' WHERE update_id = 1"),
    ),
    "a version is of no round": ({"I2/I3", "I4"}, sql("UPDATE versions SET round_id = NULL WHERE version = 3")),
    "a round that closed is called abandoned": (
        {"I2/I3", "I4", "I9"},
        sql("UPDATE rounds SET state = 'ABANDONED' WHERE round_id = 1"),
    ),
    "a round that closed is open again": (
        {"I2/I3", "I4", "I9"},
        sql(
            "DROP INDEX uq_rounds_live",
            "UPDATE rounds SET state = 'OPEN' WHERE round_id = 1",
        ),
    ),
    "a round ended twice": (
        {"I4"},
        sql(
            "INSERT INTO journal SELECT 9999, at, kind, job_id, round_id, client_id, task_id, payload FROM journal"
            " WHERE kind = 'round_closed' LIMIT 1"
        ),
    ),
    "a stopped job has a live round": ({"I4"}, sql("UPDATE jobs SET state = 'stopped' WHERE job_id = 1")),
    "a paused job's round runs on": ({"I4"}, sql("UPDATE jobs SET state = 'paused' WHERE job_id = 1")),
    "a round waits although its job runs": (
        {"I4"},
        sql("UPDATE rounds SET left_seconds = 5 WHERE state IN ('OPEN', 'COLLECTING')"),
    ),
    "the end of a round is not in the journal": ({"I4"}, sql("DELETE FROM journal WHERE kind = 'round_abandoned'")),
    "a client holds two leases": (
        {"I8"},
        sql(
            "DROP INDEX uq_tasks_live",
            "INSERT INTO tasks SELECT 't_2', job_id, round_id, client_id, kind, state, base_version, leased_at,"
            " deadline, heartbeats, progress, progress_at, soft_deadline, ended_at FROM tasks WHERE state = 'leased'",
        ),
    ),
    "a lease outlives its round": (
        {"I8"},
        sql("UPDATE tasks SET state = 'leased', ended_at = NULL WHERE state = 'late' AND round_id = 1"),
    ),
    "a lease ended without a time": ({"I8"}, sql("UPDATE tasks SET ended_at = NULL WHERE state = 'expired'")),
    "a live lease has ended": ({"I8"}, sql("UPDATE tasks SET ended_at = 1 WHERE state = 'leased'")),
    "a lease that ended takes an update all the same": (
        {"I8"},
        sql(
            "INSERT INTO journal (at, kind, job_id, round_id, client_id, task_id, payload)"
            " SELECT at, 'task_expired', job_id, round_id, client_id, task_id, '{\"task\":\"train\"}' FROM journal"
            " WHERE kind = 'update_accepted' LIMIT 1"
        ),
    ),
    "a task that reported is called expired": (
        {"I8"},
        sql("UPDATE tasks SET state = 'expired' WHERE task_id = (SELECT task_id FROM updates WHERE update_id = 1)"),
    ),
    "a task that never reported is called reported": (
        {"I8"},
        sql("UPDATE tasks SET state = 'reported' WHERE state = 'expired'"),
    ),
    "a payment is more than was taken": (
        {"I9"},
        cook_the_books(
            "UPDATE ledger_entries SET micro_tokens = micro_tokens + 1 WHERE group_id = 1 AND account <> 'mint'"
        ),
    ),
    "two wrong payments cancel out": (
        {"I9"},
        cook_the_books(
            "UPDATE ledger_entries SET micro_tokens = micro_tokens + 1 WHERE group_id = 1 AND account <> 'mint'",
            "UPDATE ledger_entries SET micro_tokens = micro_tokens - 1 WHERE group_id = 3 AND account <> 'mint'",
        ),
    ),
    "half of a payment is gone": (
        {"I9"},
        cook_the_books("DELETE FROM ledger_entries WHERE group_id = 1 AND account = 'mint'"),
    ),
    "a payment is gone": (
        {"I9"},
        cook_the_books(
            "UPDATE ledger_accounts SET micro_tokens = micro_tokens - (SELECT micro_tokens FROM ledger_entries"
            " WHERE group_id = 1 AND ledger_entries.account = ledger_accounts.account)"
            " WHERE account IN (SELECT account FROM ledger_entries WHERE group_id = 1)",
            "DELETE FROM ledger_entries WHERE group_id = 1",
            "DELETE FROM ledger_groups WHERE group_id = 1",
        ),
    ),
    "a balance is not that of its entries": (
        {"I9"},
        sql("UPDATE ledger_accounts SET micro_tokens = micro_tokens + 1 WHERE account = 'escrow:anna'"),
    ),
    "a client was paid for nothing": (
        {"I9"},
        sql(
            f"{GROUP} VALUES (999, 'x', 'carl', 1, 'base', 0, 'grant', NULL, NULL)",
            "INSERT INTO ledger_entries VALUES (999, 'mint', -5), (999, 'client:carl', 5)",
            "INSERT INTO ledger_accounts VALUES ('client:carl', 'carl', 5)",
            "UPDATE ledger_accounts SET micro_tokens = micro_tokens - 5 WHERE account = 'mint'",
        ),
    ),
    "a client was paid for another's work": (
        {"I9"},
        sql(f"{GROUP} VALUES (999, 'x', 'carl', 1, 'gift', 0, 'grant', {TASK}, NULL)"),
    ),
    "a client was paid twice": (
        {"I9"},
        sql(f"{GROUP} VALUES (999, 'x', 'anna', 1, 'base', 0, 'grant', {TASK}, NULL)"),
    ),
    "a client owes": (
        {"I9"},
        sql(
            f"{GROUP} VALUES (999, 'x', 'anna', 1, 'fine', 0, 'grant', {TASK}, NULL)",
            "INSERT INTO ledger_entries VALUES (999, 'mint', 900000000), (999, 'client:anna', -900000000)",
        ),
    ),
    "a grant is taken back for another amount": (
        {"I9"},
        sql(f"{GROUP} VALUES (999, 'x', 'anna', 1, 'operator', 0, 'reversal', {TASK}, 1)"),
    ),
    "a reversal takes back nothing": (
        {"I9"},
        sql(f"{GROUP} VALUES (999, 'x', 'anna', 1, 'operator', 0, 'reversal', {TASK}, 77)"),
    ),
}


@pytest.mark.parametrize("damage", RECORDS)
def test_a_damaged_record_is_found_by_the_invariant_that_it_breaks(folder: Path, damage: str) -> None:
    found_by, plant = RECORDS[damage]
    plant(folder)
    assert broken_checks(folder) == found_by


def test_a_breach_is_told_in_words_that_lead_to_it(folder: Path) -> None:
    path = blob(folder, UPDATE)
    path.unlink()
    missing, rebuild = verify_data_dir(folder).breaches
    assert f"unchanged: blob {path.name} is recorded but not in the store" in missing
    assert rebuild.startswith("I6 every version rebuilds byte for byte: job default: v2 cannot be rebuilt")


def test_every_breach_is_listed_and_not_only_the_first(folder: Path) -> None:
    for query in (FIRST_MODEL, UPDATE, LATE_UPDATE):
        blob(folder, query).unlink()
    intact = verify_data_dir(folder).checks[0]
    assert len(intact.breaches) == 3


def test_a_coordinator_that_has_done_nothing_yet_is_sound(open_stand: OpenStand) -> None:
    stand = open_stand()
    assert stand.breaches() == ()
    stand.create()
    assert stand.breaches() == ()
