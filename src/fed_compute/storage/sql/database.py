"""Connections and transactions.

SQLite runs in WAL mode with `synchronous=FULL`, so a committed transaction survives a power loss.
Writers take the write lock at the start (`BEGIN IMMEDIATE`), which makes a read inside a write
transaction a promise, not a guess. On PostgreSQL the round row is the lock: what decides about a round
reads it `FOR UPDATE` first.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from fed_compute.errors import SchemaUnsupported, StorageBusy

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MILLISECONDS = 10_000


class Database:
    """Opens transactions on one database. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._write_lock = threading.Lock()
        one_connection = isinstance(engine.pool, StaticPool)
        self._read_lock = self._write_lock if one_connection else nullcontext()

    @property
    def engine(self) -> Engine:
        """The underlying engine, for migrations and tests."""
        return self._engine

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Run a block in one transaction: all of it is durable afterwards, or none.

        Raises:
            StorageBusy: if another process holds the write lock too long.
        """
        try:
            if not self._is_sqlite:
                with self._engine.begin() as connection:
                    yield connection
                return
            with self._write_lock, self._engine.begin() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
        except OperationalError as error:
            raise _translated(error) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Run a block on one consistent view of the data.

        Raises:
            StorageBusy: if the database does not answer in time.
        """
        try:
            with self._read_lock, self._engine.connect() as connection:
                if self._is_sqlite:
                    connection.exec_driver_sql("BEGIN")
                yield connection
                connection.rollback()
        except OperationalError as error:
            raise _translated(error) from error

    def migrate(self) -> None:
        """Bring the tables to this version's shape.

        Raises:
            SchemaUnsupported: if a newer version of the product wrote the database.
        """
        config = alembic.config.Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        with self._engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise SchemaUnsupported(
                f"the database has schema {current}, this version of fed-compute knows {sorted(known)}; "
                "start the version that wrote it, or a newer one"
            )
        config.attributes["engine"] = self._engine
        alembic.command.upgrade(config, "head")

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def open_database(url: str) -> Database:
    """Open a database by SQLAlchemy URL: `sqlite:///path`, `sqlite://` (memory), `postgresql+psycopg://…`."""
    if not url.startswith("sqlite"):
        return Database(create_engine(url, pool_pre_ping=True))
    in_memory = url == "sqlite://"
    engine = create_engine(
        url,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MILLISECONDS / 1000},
        **({"poolclass": StaticPool} if in_memory else {"pool_size": 20, "max_overflow": 60}),
    )
    event.listen(engine, "connect", _prepare_sqlite)
    return Database(engine)


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions of its own
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MILLISECONDS}")


def _translated(error: OperationalError) -> Exception:
    text = str(error.orig)
    return StorageBusy() if "locked" in text or "busy" in text else error
