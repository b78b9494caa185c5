"""Connections and transactions.

**One writer at a time, on every database.** A write transaction first takes the write lock and keeps it until it
ends, so what it reads stays true while it decides, and the journal's numbers have the order of the commits. SQLite
has that lock (`BEGIN IMMEDIATE`); on PostgreSQL it is an advisory lock of the transaction, which all replicas share.
Readers wait for nobody: they see one moment (WAL in SQLite, `REPEATABLE READ` in PostgreSQL).

A committed transaction survives a power loss: SQLite runs in WAL mode with `synchronous=FULL`, and its disk is probed
after each commit; PostgreSQL does so by default.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import StaticPool

from fed_compute.errors import (
    DiskFailed,
    DiskFull,
    ExtraMissing,
    FedComputeError,
    SchemaUnsupported,
    SettingInvalid,
    StorageBusy,
)
from fed_compute.storage.sql.disk_probe import DiskProbe
from fed_compute.storage.sql.failures import translated
from fed_compute.storage.tally import Tally

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MILLISECONDS = 10_000
FROZEN_TIMEOUT_MILLISECONDS = 30_000
"""A process that stands still within a transaction for so long loses it, and the write lock with it."""
WRITER_LOCK = 0x6665_6463
"""The number of the advisory lock that PostgreSQL gives to one writer at a time."""
POSTGRESQL_DRIVER = "postgresql+psycopg"


@dataclass(frozen=True, slots=True)
class Schema:
    """The shape of a database's tables: the one found (None for no tables), the one wanted, by their numbers.

    `is_known` is false if a newer version of the product made it.
    """

    found: str | None
    wanted: str | None
    is_known: bool


@dataclass(frozen=True, slots=True)
class DatabaseLoad:
    """What one process asked of its database: `begun` transactions by access, `failed` ones by the error's code."""

    begun: Tally[str] = field(default_factory=Tally)
    failed: Tally[str] = field(default_factory=Tally)
    waited_seconds: Tally[str] = field(default_factory=Tally)
    """How long those of an access waited for their turn."""


class Database:
    """Opens transactions on one database. Safe to share between threads.

    `probe` looks after each commit whether the disk lives; None for what is in memory, or another server's.
    """

    def __init__(self, engine: Engine, probe: DiskProbe | None = None) -> None:
        self.load = DatabaseLoad()
        self._engine = engine
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._begin_writing = "BEGIN IMMEDIATE" if self._is_sqlite else f"SELECT pg_advisory_xact_lock({WRITER_LOCK})"
        self._reading = engine
        if not self._is_sqlite:
            self._reading = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._probe = probe
        self._is_doubtful = False  # what was committed last may be lost: nobody may be told of it
        self._write_lock = threading.Lock()
        self._has_one_connection = isinstance(engine.pool, StaticPool)
        self._read_lock = self._write_lock if self._has_one_connection else nullcontext()
        self._only: Connection | None = None  # kept from one transaction to the next
        self._translated = partial(translated, engine.dialect.loaded_dbapi.Error, self._note_failure)

    @property
    def engine(self) -> Engine:
        """The underlying engine, for tests."""
        return self._engine

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Run a block in one transaction: all of it is durable afterwards, or none.

        Raises:
            StorageBusy: if others hold the write lock too long, or the database undid the transaction.
            StorageUnreachable, DiskFull, DiskFailed, RecordConflict, StorageFailed: as `failures.translated`.
        """
        asked_at = time.perf_counter()
        # Threads of one process queue here, so that each process asks the database for one connection only.
        if not self._write_lock.acquire(timeout=BUSY_TIMEOUT_MILLISECONDS / 1000):
            self.load.failed.add(StorageBusy.code)
            raise StorageBusy()
        try:
            with self._translated(), self._connected(self._engine) as connection, connection.begin():
                _run(connection, self._begin_writing)
                self.load.begun.add("write")
                self.load.waited_seconds.add("write", time.perf_counter() - asked_at)
                yield connection
            self._require_live_disk()
        finally:
            self._write_lock.release()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Run a block on one consistent view of the data.

        Raises:
            StorageBusy, StorageUnreachable, DiskFailed, StorageFailed: as `failures.translated`.
        """
        if self._is_doubtful:
            self._require_live_disk()
        self.load.begun.add("read")
        with (
            self._translated(),
            self._read_lock,
            self._connected(self._reading) as connection,
            closing(connection.begin()),  # which undoes it: there is nothing to keep
        ):
            if self._is_sqlite:
                _run(connection, "BEGIN")
            yield connection

    def migrate(self) -> None:
        """Bring the tables to this version's shape. Replicas that start together do it once.

        Raises:
            SchemaUnsupported: if a newer version of the product wrote the database.
        """
        config = _migrations()
        known = _revisions(config)
        with self.write() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
            if current is not None and current not in known:
                raise SchemaUnsupported(
                    f"the database has schema {current}, this version of fed-compute knows {sorted(known)}; "
                    "start the version that wrote it, or a newer one"
                )
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")

    def schema(self) -> Schema:
        """Return which shape the tables have, and which this version of the product gives them. Changes nothing.

        Raises:
            StorageBusy, StorageUnreachable, DiskFailed, StorageFailed: as `failures.translated`.
        """
        config = _migrations()
        with self.read() as connection:
            found = MigrationContext.configure(connection).get_current_revision()
        wanted = ScriptDirectory.from_config(config).get_current_head()
        return Schema(found, wanted, is_known=found is None or found in _revisions(config))

    def close(self) -> None:
        """Close every connection."""
        if self._only is not None:
            self._only.close()
            self._only = None
        self._engine.dispose()

    @contextmanager
    def _connected(self, engine: Engine) -> Iterator[Connection]:
        """Lend a connection; where there is only one, its lock is held."""
        if not self._has_one_connection:
            with engine.connect() as connection:
                yield connection
            return
        if self._only is None:
            self._only = engine.connect()
        yield self._only

    def _require_live_disk(self) -> None:
        if self._probe is None:
            return
        try:
            self._probe.require_alive()
        except (DiskFull, DiskFailed) as error:
            self._is_doubtful = isinstance(error, DiskFailed)  # a full disk keeps what it has
            self._note_failure(error)
            raise
        self._is_doubtful = False

    def _note_failure(self, error: FedComputeError) -> None:
        self.load.failed.add(error.code)


def _run(connection: Connection, text: str) -> None:
    """Let the driver itself run a statement: the way through SQLAlchemy takes longer than an empty transaction."""
    connection.connection.cursor().execute(text)


def _migrations() -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _revisions(config: alembic.config.Config) -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}


def open_database(url: str) -> Database:
    """Open a database by SQLAlchemy URL: `sqlite:///path`, `sqlite://` (memory), `postgresql://user@host/name`.

    Nothing is connected yet.

    Raises:
        SettingInvalid: if it is no URL of SQLite or PostgreSQL.
        ExtraMissing: if the driver for PostgreSQL is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SettingInvalid("database_url is not a URL like postgresql://user:password@host/name") from error
    match parsed.drivername:
        case "sqlite":
            in_memory = parsed.database in (None, "", ":memory:")
            probe = None if in_memory else DiskProbe(Path(str(parsed.database)).absolute())
            return Database(_sqlite_engine(parsed, in_memory=in_memory), probe)
        case "postgres" | "postgresql" | "postgresql+psycopg":
            return Database(_postgresql_engine(parsed.set(drivername=POSTGRESQL_DRIVER)))
    raise SettingInvalid(f"database_url starts with {parsed.drivername[:40]!r}, wanted sqlite or postgresql")


def _sqlite_engine(url: URL, *, in_memory: bool) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MILLISECONDS / 1000},
        **({"poolclass": StaticPool} if in_memory else {"pool_size": 20, "max_overflow": 60}),
    )
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MILLISECONDS}")


def _postgresql_engine(url: URL) -> Engine:
    try:
        engine = create_engine(
            url,
            # Each statement of a writer must see what was committed before it got the write lock.
            isolation_level="READ COMMITTED",
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=15,
            pool_timeout=BUSY_TIMEOUT_MILLISECONDS / 1000,
            connect_args={"connect_timeout": BUSY_TIMEOUT_MILLISECONDS // 1000},
        )
    except ModuleNotFoundError as error:
        raise ExtraMissing(what="a PostgreSQL database", extra="postgres") from error
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    connection.autocommit = True  # a setting made in a transaction would go with it
    connection.execute(f"SET lock_timeout = {BUSY_TIMEOUT_MILLISECONDS}")
    connection.execute(f"SET idle_in_transaction_session_timeout = {FROZEN_TIMEOUT_MILLISECONDS}")
    connection.autocommit = False
