"""Copying an SQLite database while others write to it."""

import sqlite3
from contextlib import closing
from pathlib import Path


def copy_sqlite(source: Path, target: Path) -> None:
    """Write a database of one moment, as one file; writers of the source are not held up (SQLite's backup API).

    Raises:
        sqlite3.Error: if the source is no database, or the target cannot be written.
    """
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as original, closing(sqlite3.connect(target)) as copy:
        original.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
