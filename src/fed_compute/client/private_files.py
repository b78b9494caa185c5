"""Files of the state folder: readable by their owner only, on the disk before anything goes on."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from fed_compute.errors import StateUnusable

_OWNER_ONLY = 0o600


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Make the folder if it is missing, and keep other processes out of it while the block runs.

    Raises:
        StateUnusable: if a file operation of the block fails. What was written before is whole.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(folder / ".lock", mode=_OWNER_ONLY):
            yield
    except (OSError, NotImplementedError) as error:  # the latter from a file system without locks
        raise StateUnusable(
            f"{folder} cannot be used: {error}; nothing is sent that cannot be written down: "
            "free some space, or set CLIENT_STATE_DIR to a folder of yours"
        ) from error


def append(file: Path, line: bytes) -> None:
    """Add one line; it is on the disk when this returns. Half a line of an earlier crash is ended first."""
    with open(file, "a+b", opener=_opener) as stream:
        if stream.tell() and _last_byte(stream.fileno()) != b"\n":
            line = b"\n" + line
        stream.write(line + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    _settle_folder(file.parent)


def replace(file: Path, content: bytes) -> None:
    """Write a file anew: afterwards it is there whole, or the old one still is."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(file)
        _settle_folder(file.parent)
    finally:
        Path(name).unlink(missing_ok=True)  # still there only if something failed


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags, _OWNER_ONLY)


def _last_byte(descriptor: int) -> bytes:
    end = os.lseek(descriptor, 0, os.SEEK_END)
    os.lseek(descriptor, end - 1, os.SEEK_SET)
    return os.read(descriptor, 1)


def _settle_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # a folder cannot be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
