"""A disk that forgets what was not synced, and on which any call may be the last.

The files are real, below `root`; what a power cut would leave of them is kept beside. A cut builds the folder that the
next start finds and never touches the old one again, so whatever a dying process still does is in vain.

**Modelled.** A file's bytes survive once the file was synced, its name once its folder was: new, renamed and removed
names alike. Unsynced bytes are gone, whole, cut, or zeros from some place on (delayed allocation); unsynced names are
there or not, each for itself. A sync that failed has lost its bytes: a later one of the same bytes succeeds and does
not bring them back (fsyncgate, PostgreSQL 2018). A rename is atomic. Files are as old as the simulated clock says.

**The database** is a real SQLite file with its real write-ahead log, and recovery is SQLite's own. A commit is
durable if the connection's `synchronous` is at least FULL when it is made; otherwise a cut undoes it and all after it,
up to the next that is. A torn commit leaves a log that ends, or is old again, in the middle of the transaction's
bytes. The names of the two files are durable: SQLite syncs the folder itself.

**Not modelled.** SQLite's writes one by one and a commit that fails half-way (its own tests do that), torn sectors,
bytes that rot (`test_verify` flips them), a disk that lies about having synced, memory maps, a second process.
"""

import errno
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from fed_compute.clock import Clock
from tests.fault.simulated.faults import Fault, Loss, PowerCut
from tests.fault.simulated.tree import File, Folder, Survivors, durable_tree

T = TypeVar("T")
DatabaseFiles = dict[Path, bytes]

FULL = 2
"""SQLite's number for `synchronous=FULL`."""
DATABASE, LOG, INDEX = ".sqlite3", ".sqlite3-wal", ".sqlite3-shm"
DATABASE_ENDS = (DATABASE, LOG, INDEX)


class Disk:
    """Everything below `root`. Each persistence call goes through `perform` or `commit` and may meet a fault."""

    def __init__(self, root: Path, *, clock: Clock, chance: random.Random) -> None:
        self.root = root
        self.trace: list[str] = []
        """What each call so far was."""
        self.num_errors = 0
        """Calls that failed on purpose."""
        self.is_dead = False
        self._clock = clock
        self._chance = chance
        self._armed: dict[int, Fault] = {}
        self._tree = durable_tree(root, leaving_out=DATABASE_ENDS)
        self._durable_database: DatabaseFiles | None = None  # if the last commits are not durable
        self._survivors: Path | None = None

    def arm(self, fault: Fault, *, calls_from_now: int) -> None:
        """Let the call that is so many from now, 1 for the next, meet a fault."""
        self._armed[len(self.trace) + calls_from_now] = fault

    def disarm(self) -> None:
        """Let nothing more go wrong."""
        self._armed.clear()

    def cut(self, loss: Loss) -> None:
        """Stop the machine between two calls."""
        self._die(loss, self._database())

    def after_cut(self) -> "Disk":
        """Return the disk as the next start finds it. This one is history."""
        assert self._survivors is not None, "the machine has not stopped"
        return Disk(self._survivors, clock=self._clock, chance=self._chance)

    # --- calls --------------------------------------------------------------------------------

    def perform(self, what: str, act: Callable[[], T], *, torn: Callable[[], object] | None = None) -> T:
        """Make one call by `act`. A torn or failing one does `torn`; without it, a torn one is made all the same.

        Raises:
            PowerCut: if the machine stops here, or has stopped.
            OSError: if the call fails.
        """
        fault = self._begin(what)
        if fault is Fault.DIE_BEFORE:
            self._stop(what, Loss.ALL, self._database())
        if fault is Fault.TORN:
            (torn or act)()
            self._stop(what, Loss.SOME, self._database())
        if fault is Fault.ERROR:
            if torn is not None:
                torn()
            raise _system_error(self._chance.choice([errno.EIO, errno.ENOSPC]))
        result = act()
        if fault is Fault.DIE_AFTER:
            self._stop(what, Loss.ALL, self._database())
        return result

    def commit(self, connection: sqlite3.Connection, act: Callable[[], None]) -> None:
        """Make a database's commit by `act`.

        Raises:
            PowerCut: if the machine stops here, or has stopped.
            sqlite3.OperationalError: if the commit fails; nothing of it is done.
        """
        fault = self._begin("commit")
        if fault is Fault.ERROR:
            raise _database_error(self._chance.choice(["SQLITE_IOERR", "SQLITE_FULL", "SQLITE_BUSY"]))
        is_durable = connection.execute("PRAGMA synchronous").fetchone()[0] >= FULL
        before = {} if fault is None and is_durable else self._database()
        if fault is Fault.DIE_BEFORE:
            self._stop("commit", Loss.ALL, before)
        if not is_durable and self._durable_database is None:
            self._durable_database = before
        act()
        if fault is Fault.TORN:
            self._stop("commit", Loss.SOME, self._torn(before, self._database()))
        if is_durable:
            self._durable_database = None
        if fault is Fault.DIE_AFTER:
            self._stop("commit", Loss.ALL, self._database())

    def _begin(self, what: str) -> Fault | None:
        if self.is_dead:
            raise PowerCut(f"{what}, after the end")
        self.trace.append(what)
        fault = self._armed.pop(len(self.trace), None)
        self.num_errors += fault is Fault.ERROR
        return fault

    # --- files and folders --------------------------------------------------------------------

    def holds(self, path: Path) -> bool:
        """Say whether a file or folder is this disk's. The database's files are SQLite's."""
        return self.root in (path, *path.parents) and not path.name.endswith(DATABASE_ENDS)

    def node(self, path: Path) -> File | Folder | None:
        """Return what is at a path, None if nothing is."""
        found: File | Folder | None = self._tree
        for name in path.relative_to(self.root).parts:
            found = found.now.get(name) if isinstance(found, Folder) else None
        return found

    def create(self, path: Path, act: Callable[[], T]) -> T:
        """Make a new, empty file by `act`."""

        def make() -> T:
            made = act()
            self._folder(path.parent).now[path.name] = File()
            self.note_written(path)
            return made

        return self.perform("create", make)

    def sync(self, node: File | Folder, path: Path) -> None:
        """Make a file's bytes, or a folder's names, durable."""
        if isinstance(node, Folder):
            self.perform("sync folder", node.sync, torn=lambda: None)
            return
        body = path.read_bytes()
        try:
            self.perform("sync file", lambda: node.sync(body), torn=lambda: None)
        except OSError:
            node.dropped = body
            raise

    def rename(self, source: Path, target: Path, act: Callable[[], None]) -> None:
        """Move a file by `act`, over another one if there is one."""

        def move() -> None:
            act()
            self._folder(target.parent).now[target.name] = self._folder(source.parent).now.pop(source.name)

        self.perform("rename", move)

    def make_folder(self, path: Path, act: Callable[[], None]) -> None:
        """Make a folder by `act`."""

        def make() -> None:
            act()
            self._folder(path.parent).now[path.name] = Folder()

        self.perform("make folder", make)

    def remove(self, path: Path, act: Callable[[], None]) -> None:
        """Remove a file by `act`."""

        def take_away() -> None:
            act()
            del self._folder(path.parent).now[path.name]

        self.perform("remove", take_away)

    def note_written(self, file: Path | int) -> None:
        """Make a file, named or open, as old as the simulated clock says that it is."""
        os.utime(file, (self._clock.now(), self._clock.now()))

    def _folder(self, path: Path) -> Folder:
        found = self.node(path)
        assert isinstance(found, Folder), f"{path} was made behind the disk's back"
        return found

    # --- the end ------------------------------------------------------------------------------

    def _stop(self, what: str, loss: Loss, database: DatabaseFiles) -> None:
        self._die(loss, database)
        raise PowerCut(what)

    def _die(self, loss: Loss, database: DatabaseFiles) -> None:
        self.is_dead = True
        name, _, number = self.root.name.partition("-")
        self._survivors = self.root.with_name(f"{name}-{int(number or 0) + 1}")
        Survivors(loss, self._chance, self._clock.now()).save(self._tree, self.root, self._survivors)
        if loss is not Loss.NONE and self._durable_database is not None:
            database = self._durable_database
        for path, body in database.items():
            target = self._survivors / path.relative_to(self.root)
            if target.parent.exists():  # else the whole folder is lost
                target.write_bytes(body)

    def _database(self) -> DatabaseFiles:
        """Return the bytes of the databases and their logs as they are."""
        return {path: path.read_bytes() for end in (DATABASE, LOG) for path in self.root.glob(f"*/*{end}")}

    def _torn(self, before: DatabaseFiles, after: DatabaseFiles) -> DatabaseFiles:
        """Return the files as they are when only the first part of a commit's bytes has come into the log."""
        files = dict(before)
        for path, new in after.items():
            if path.name.endswith(LOG) and new != (old := before.get(path, b"")):
                padded = old.ljust(len(new), b"\0")[: len(new)]
                changed = np.flatnonzero(np.frombuffer(padded, np.uint8) != np.frombuffer(new, np.uint8))
                cut = self._chance.randrange(int(changed[0]), int(changed[-1]) + 1)
                files[path] = new[:cut] + old[cut:]
        return files


def _system_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _database_error(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(f"{name}, on purpose")
    error.sqlite_errorname, error.sqlite_errorcode = name, getattr(sqlite3, name)
    return error
