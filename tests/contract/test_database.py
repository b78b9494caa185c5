"""What transactions promise, on every database: one writer, one moment for readers, and errors with our names."""

import sqlite3
from functools import partial
from typing import Any

import psycopg.errors
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fed_compute.errors import (
    DiskFailed,
    DiskFull,
    NotNow,
    RecordConflict,
    SchemaUnsupported,
    SettingInvalid,
    StorageBusy,
    StorageFailed,
    StorageUnreachable,
)
from fed_compute.storage.sql.database import Database, open_database
from fed_compute.storage.sql.failures import meaning
from fed_compute.storage.sql.store import Store
from fed_compute.storage.sql.tables import metadata
from tests.contract.conftest import Place
from tests.contract.crowd import at_once
from tests.contract.samples import client


def impatient(place: Place, *, postgresql: str, sqlite: str) -> Database:
    """Open the database once more, with other limits for each of its connections."""
    database = place.bare()

    def set_limit(connection: Any, _record: Any) -> None:
        if place.is_postgresql:
            connection.autocommit = True
        connection.execute(postgresql if place.is_postgresql else sqlite)
        if place.is_postgresql:
            connection.autocommit = False

    event.listen(database.engine, "connect", set_limit)
    return database


def test_the_migrations_make_exactly_the_tables(place: Place) -> None:
    with place.database().write() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_replicas_that_start_together_make_the_tables_once(place: Place) -> None:
    databases = [place.bare() for _ in range(4)]
    assert at_once([database.migrate for database in databases]) == [None] * 4
    with Store(databases[0]).snapshot() as records:
        assert records.jobs.all() == []


def test_a_database_of_a_newer_version_is_left_alone(place: Place) -> None:
    database = place.database()
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaUnsupported, match="9999"):
        database.migrate()


def test_a_block_that_fails_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.transaction() as records:
            records.clients.add(client("anna"))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    with store.snapshot() as records:
        assert records.clients.all() == []


@pytest.mark.parametrize("place", ["sqlite file", "postgresql"], indirect=True)
def test_a_reader_sees_one_moment_while_others_write(place: Place) -> None:
    reader, writer = Store(place.database()), Store(place.database())

    def write() -> None:
        with writer.transaction() as records:
            records.clients.add(client("anna"))

    with reader.snapshot() as records:
        before = records.clients.all()
        assert at_once([write]) == [None]
        assert records.clients.all() == before == []
    with reader.snapshot() as records:
        assert records.clients.all() == [client("anna")]


@pytest.mark.parametrize("place", ["sqlite file", "postgresql"], indirect=True)
def test_there_is_one_writer_at_a_time_and_the_other_is_told_to_wait(place: Place) -> None:
    first = Store(place.database())
    second = Store(impatient(place, postgresql="SET lock_timeout = 50", sqlite="PRAGMA busy_timeout = 50"))

    def write() -> None:
        with second.transaction() as records:
            records.clients.add(client("bob"))

    with first.transaction() as records:
        records.clients.find(client("anna").client_id)
        refused = at_once([write])
    assert [type(error) for error in refused] == [StorageBusy]
    assert at_once([write]) == [None]


def test_a_writer_that_stands_still_loses_the_lock_and_all_it_wrote(postgresql: Place) -> None:
    other = Store(postgresql.database())
    frozen = Store(impatient(postgresql, postgresql="SET idle_in_transaction_session_timeout = 50", sqlite=""))

    def write_at_last() -> None:
        with other.transaction() as records:
            records.clients.add(client("bob"))

    def freeze() -> None:
        with frozen.transaction() as records:
            records.clients.add(client("anna"))
            assert at_once([write_at_last]) == [None]  # waits for the lock until the server takes it away
            records.clients.add(client("carl"))

    with pytest.raises(NotNow):
        freeze()
    with other.snapshot() as records:
        assert records.clients.all() == [client("bob")]


def test_a_connection_that_the_server_ends_is_told_as_such_and_replaced(postgresql: Place) -> None:
    database = postgresql.database()

    def write() -> None:
        with database.write() as connection:
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(StorageUnreachable):
        write()
    with Store(database).snapshot() as records:
        assert records.jobs.all() == []


def test_a_database_that_is_not_there_is_told_as_such() -> None:
    database = open_database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(StorageUnreachable):
        database.migrate()
    database.close()


def test_more_threads_than_connections_all_get_their_turn(postgresql: Place) -> None:
    store = Store(postgresql.database())

    def write(name: str) -> None:
        with store.transaction() as records:
            records.clients.add(client(name))

    assert at_once([partial(write, f"c{number}") for number in range(40)]) == [None] * 40
    with store.snapshot() as records:
        assert len(records.clients.all()) == 40


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://u:secret@h/d", "postgresql+asyncpg://u:secret@h/d"])
def test_an_address_of_another_kind_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(SettingInvalid) as refusal:
        open_database(url)
    assert "secret" not in refusal.value.message


@pytest.mark.parametrize(
    ("cause", "wanted"),
    [
        (psycopg.errors.SerializationFailure(), StorageBusy),
        (psycopg.errors.DeadlockDetected(), StorageBusy),
        (psycopg.errors.LockNotAvailable(), StorageBusy),
        (psycopg.errors.IdleInTransactionSessionTimeout(), StorageBusy),
        (psycopg.errors.TooManyConnections(), StorageBusy),
        (psycopg.errors.AdminShutdown(), StorageUnreachable),
        (psycopg.errors.ConnectionFailure(), StorageUnreachable),
        (psycopg.OperationalError("no state"), StorageUnreachable),
        (psycopg.errors.DiskFull(), DiskFull),
        (psycopg.errors.UndefinedTable(), StorageFailed),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_each_failure_of_postgresql_has_a_meaning(cause: Exception, wanted: type[Exception]) -> None:
    assert type(meaning(DBAPIError("SELECT 1", {}, cause))) is type(meaning(cause)) is wanted


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (sqlite3.SQLITE_BUSY, StorageBusy),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StorageBusy),
        (sqlite3.SQLITE_LOCKED, StorageBusy),
        (sqlite3.SQLITE_FULL, DiskFull),
        (sqlite3.SQLITE_CORRUPT, StorageFailed),
        (sqlite3.SQLITE_IOERR_WRITE, DiskFailed),
        (sqlite3.SQLITE_READONLY, DiskFailed),
        (sqlite3.SQLITE_CANTOPEN, DiskFailed),
    ],
)
def test_each_failure_of_sqlite_has_a_meaning(code: int, wanted: type[Exception]) -> None:
    cause = sqlite3.OperationalError("told by its code, not by its text")
    cause.sqlite_errorcode = code
    assert type(meaning(OperationalError("SELECT 1", {}, cause))) is type(meaning(cause)) is wanted


def test_failures_that_no_driver_reports_have_a_meaning_too() -> None:
    assert type(meaning(PoolTimeout())) is StorageBusy
    assert type(meaning(IntegrityError("INSERT", {}, sqlite3.IntegrityError()))) is RecordConflict
    assert type(meaning(sqlite3.IntegrityError())) is RecordConflict
    assert type(meaning(InvalidRequestError())) is StorageFailed


def test_a_failed_statement_shows_its_values_nowhere(place: Place) -> None:
    def fail() -> None:
        with place.database().write() as connection:
            connection.execute(text("SELECT 1 FROM no_such_table WHERE name = :name"), {"name": "the-value"})

    with pytest.raises(StorageFailed) as failure:
        fail()
    assert "the-value" not in f"{failure.value} {failure.value.__cause__}"
