"""Statements for any number of rows: keys go in as one parameter, rows as tuples that the driver takes as they are.

SQLAlchemy's own `IN` names each key in the text of the statement, its own insert makes a dictionary of each row, and
its way to the driver costs as much as some ten rows; each of them is more than the database takes.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from fed_compute.storage.sql.tables import Word

Row = tuple[Any, ...]


class _Elements(FunctionElement[str]):
    """The texts in a JSON array, a row each, in a column `value`."""

    inherit_cache = True


@compiles(_Elements, "sqlite")
def _in_sqlite(element: _Elements, compiler: Any, **how: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **how)})"


@compiles(_Elements, "postgresql")
def _in_postgresql(element: _Elements, compiler: Any, **how: Any) -> str:
    return f"json_array_elements_text(CAST({compiler.process(element.clauses, **how)} AS JSON))"


GIVEN = _Elements(bindparam("keys")).table_valued("value", name="given")
"""The keys that a statement is given by `keys`: a table of one column, `value`, of texts."""


def among_keys(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a column of texts holds one of the keys."""
    return column.in_(select(GIVEN.c.value))


def keys(texts: Iterable[str]) -> dict[str, Any]:
    """Return the parameter of a statement about these keys."""
    return {"keys": json.dumps(list(texts))}


def row_maker(table: Table, names: Sequence[str]) -> Callable[[Any], Row]:
    """Return what turns a record into a row of the columns `names`, two or more, for `insert_all` or `update_all`."""
    return attrgetter(*(f"{name}._value_" if isinstance(table.c[name].type, Word) else name for name in names))


def insert_all(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Row]) -> None:
    """Insert rows of the columns `names`, in their order. None is fine."""
    if rows:
        _run_for_each(connection, _insertion(table.name, tuple(names), _mark(connection)), rows)


def update_all(connection: Connection, table: Table, names: Sequence[str], key: str, rows: Sequence[Row]) -> None:
    """Set the columns `names` of many rows, each found by the column `key`, whose value stands last. None is fine."""
    if rows:
        _run_for_each(connection, _change(table.name, tuple(names), key, _mark(connection)), rows)


def _run_for_each(connection: Connection, text: str, rows: Sequence[Row]) -> None:
    """Let the driver itself run a statement for each row."""
    connection.connection.cursor().executemany(text, rows)


def _mark(connection: Connection) -> str:
    return "?" if connection.dialect.positional else "%s"


@lru_cache
def _insertion(table: str, names: tuple[str, ...], mark: str) -> str:
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(mark for _ in names)})"  # noqa: S608 -- our own names


@lru_cache
def _change(table: str, names: tuple[str, ...], key: str, mark: str) -> str:
    return f"UPDATE {table} SET {', '.join(f'{name} = {mark}' for name in names)} WHERE {key} = {mark}"  # noqa: S608
