"""Databases on simulated disks: each commit asks the disk, and one engine serves them all, one after the other."""

import sqlite3
from collections.abc import Callable
from typing import Any

from alembic.migration import MigrationContext
from sqlalchemy import event, make_url

from fed_compute.storage.sql.database import Database, open_database
from tests.fault.simulated.disk import Disk


class Connection(sqlite3.Connection):
    """A real connection, whose commits the disk makes."""

    disk: Disk

    def commit(self) -> None:
        """End the transaction, if there is one, durably."""
        if self.in_transaction:
            self.disk.commit(self, super().commit)


class KnownDatabase(Database):
    """A database that is not migrated again where it has this version's tables: a start is the same without.

    Nor is the disk probed after a commit: a simulated one does not lie about it.
    """

    def __init__(self, database: Database, newest: str | None = None) -> None:
        super().__init__(database.engine)
        self._newest = newest

    def migrate(self) -> None:
        """Bring the tables to this version's shape, if they are not."""
        if self._newest is None or self._revision() != self._newest:
            super().migrate()
            self._newest = self._revision()

    def _revision(self) -> str | None:
        with self.read() as connection:
            return MigrationContext.configure(connection).get_current_revision()


class Databases:
    """Opens the database of whichever machine runs. The engine is kept: it knows every statement already."""

    def __init__(self) -> None:
        self._database: KnownDatabase | None = None
        self._disk: Callable[[], Disk] | None = None
        self._path = ""

    def use(self, disk: Callable[[], Disk]) -> None:
        """Let connections from now on lie on this disk."""
        self._disk = disk

    def open(self, url: str) -> Database:
        """Open a database file, as the product does. Whatever was open before must be closed."""
        self._path = make_url(url).database or ""
        if self._database is None:
            self._database = KnownDatabase(open_database(url))
            event.listen(self._database.engine, "do_connect", self._connect)
        return self._database

    def _connect(self, _dialect: Any, _record: Any, arguments: list[Any], named: dict[str, Any]) -> None:
        arguments[0] = self._path
        named["factory"] = self._connection

    def _connection(self, *arguments: Any, **named: Any) -> Connection:
        assert self._disk is not None, "a database is opened on no machine"
        connection = Connection(*arguments, **{**named, "factory": Connection})
        connection.disk = self._disk()
        return connection
