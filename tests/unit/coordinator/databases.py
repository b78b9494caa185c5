"""In-memory databases that are used again: making tables and compiling statements takes longer than any test."""

import sqlite3

from fed_compute.storage.sql.database import Database, open_database

IN_MEMORY = "sqlite://"


class ReusedDatabase(Database):
    """A real database that, once closed, may be opened anew. Its engine still knows every statement."""

    is_free = False

    def close(self) -> None:
        """Close every connection, and with them forget every row."""
        super().close()
        self.is_free = True


class Databases:
    """Opens databases, and hands out those in memory with their tables made."""

    def __init__(self) -> None:
        first = ReusedDatabase(open_database(IN_MEMORY).engine)
        first.migrate()
        self._tables = sqlite3.connect(":memory:")
        _only_connection(first).backup(self._tables)
        first.close()
        self._pool = [first]

    def open(self, url: str) -> Database:
        """Open a database as the product does; one in memory has its tables already."""
        if url != IN_MEMORY:
            return open_database(url)
        database = next((database for database in self._pool if database.is_free), None)
        if database is None:
            database = ReusedDatabase(open_database(url).engine)
            self._pool.append(database)
        database.is_free = False
        self._tables.backup(_only_connection(database))
        return database

    def close(self) -> None:
        """Close all of them for good."""
        self._tables.close()
        for database in self._pool:
            database.close()


def _only_connection(database: Database) -> sqlite3.Connection:
    with database.engine.connect() as connection:
        found = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)
    return found
