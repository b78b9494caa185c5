"""What a database's error means in the words of the product. No exception of a driver leaves the storage room."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fed_compute.errors import (
    DiskFailed,
    DiskFull,
    FedComputeError,
    RecordConflict,
    StorageBusy,
    StorageFailed,
    StorageUnreachable,
)

# SQLSTATE, PostgreSQL documentation, appendix A: serialisation failures and deadlocks (class 40), lock not to be
# had, query cancelled, idle in a transaction, too many connections. All mean: the same again may well succeed.
_BUSY_STATES = ("40", "55P03", "57014", "25P03", "53300")
_CONFLICT_STATES = ("23",)  # a constraint is broken
# Connection errors (class 08), and a server that is starting or stopping.
_AWAY_STATES = ("08", "57P")
_FULL_STATES = ("53100",)
_UNIQUE_STATE = "23505"
_UNIQUE_SQLITE = (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)


@contextmanager
def translated(driver_error: type[Exception], note: Callable[[FedComputeError], None]) -> Iterator[None]:
    """Run a block, with every error of the database turned into one of the product's, which `note` is told.

    `driver_error` is the class of the driver's own errors: where it is asked directly, they come as they are.

    Raises:
        StorageBusy: if the same again may succeed.
        StorageUnreachable: if the database does not answer.
        DiskFull: if the database has no room.
        DiskFailed: if its disk answers with errors, or cannot be written.
        RecordConflict: if a change breaks a rule of the database.
        StorageFailed: if anything else went wrong.
    """
    try:
        yield
    except (SQLAlchemyError, driver_error) as error:
        told = meaning(error)
        note(told)
        raise told from error


@contextmanager
def unique_or(refusal: FedComputeError) -> Iterator[None]:
    """Run an insert that raises `refusal` if the row is there already. The transaction is lost then."""
    try:
        yield
    except IntegrityError as error:
        if not is_duplicate(error):
            raise
        raise refusal from error


def is_duplicate(error: IntegrityError) -> bool:
    """Say whether an insert met a row of the same key."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code in _UNIQUE_SQLITE or getattr(error.orig, "sqlstate", None) == _UNIQUE_STATE


def meaning(error: Exception) -> FedComputeError:
    """Return the product's error for one of SQLAlchemy's or the driver's."""
    if isinstance(error, PoolTimeout):
        return StorageBusy()
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        return _meaning_of_driver(error.orig)
    return StorageFailed(type(error).__name__) if isinstance(error, SQLAlchemyError) else _meaning_of_driver(error)


def _meaning_of_driver(error: Exception) -> FedComputeError:
    if isinstance(error, sqlite3.Error):
        return _meaning_in_sqlite(error)
    state: str = getattr(error, "sqlstate", None) or ""
    if state.startswith(_CONFLICT_STATES):
        return RecordConflict()
    if state.startswith(_BUSY_STATES):
        return StorageBusy()
    if state.startswith(_FULL_STATES):
        return DiskFull()
    # psycopg gives no state when it could not connect, or when the connection broke.
    if state.startswith(_AWAY_STATES) or not state:
        return StorageUnreachable()
    return StorageFailed(f"{type(error).__name__} {state}")


def _meaning_in_sqlite(error: sqlite3.Error) -> FedComputeError:
    if isinstance(error, sqlite3.IntegrityError):
        return RecordConflict()
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the upper bits say more than is needed
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StorageBusy()
        case sqlite3.SQLITE_FULL:
            return DiskFull()
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN:
            return DiskFailed()
    return StorageFailed(getattr(error, "sqlite_errorname", type(error).__name__))
