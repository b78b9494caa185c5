"""Rows to records: a record's fields are its table's columns, name for name."""

import dataclasses
from typing import Any, TypeVar, cast

from sqlalchemy import Column, ColumnElement, CursorResult, Row, Table, and_, or_

from fed_compute.errors import RecordMissing

R = TypeVar("R")


def columns(table: Table, kind: type[Any]) -> list[Any]:
    """Return the columns of `table` that the record type `kind` holds, in the record's order."""
    return [table.c[field.name] for field in dataclasses.fields(kind)]


def record(kind: type[R], row: Row[Any]) -> R:
    """Build a record from a row selected with `columns`."""
    return cast(R, cast(Any, kind)(*row))


def required(kind: type[R], row: Row[Any] | None, key: object) -> R:
    """Build a record from a row that must be there, because another row refers to it.

    Raises:
        RecordMissing: if it is not.
    """
    if row is None:
        raise RecordMissing(kind.__name__.lower(), key)
    return record(kind, row)


def inserted_id(result: CursorResult[Any]) -> int:
    """Return the number that the database gave to an inserted row."""
    key = result.inserted_primary_key
    if key is None:
        raise RecordMissing("inserted", "row")
    return int(key[0])


def values(item: Any) -> dict[str, Any]:
    """Return a record as column values."""
    return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}


def older(created_at: Column[float], name: Column[str], place: tuple[float, str]) -> ColumnElement[bool]:
    """Return the condition that a row comes after `place`, (time, name), where the newest stand first."""
    return or_(created_at < place[0], and_(created_at == place[0], name < place[1]))
