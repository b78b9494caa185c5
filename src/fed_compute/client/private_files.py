"""Files of the state folder: readable by their owner only, on the disk before anything goes on."""

import os
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


def replace(file: Path, *parts: bytes | memoryview, durable: bool = True) -> None:
    """Write a file anew: afterwards it is there whole, or the old one still is.

    One writer at a time. Without `durable` the file survives the end of this process at any moment, but
    after a power cut it may be the old one, or hold anything.
    """
    new = file.with_name(f".{file.name}.new")  # always the same, so that a crash leaves at most one
    try:
        with open(new, "wb", opener=_opener) as stream:
            for part in parts:
                stream.write(part)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        new.replace(file)
        if durable:
            _settle_folder(file.parent)
    finally:
        new.unlink(missing_ok=True)  # still there only if something failed


def move(file: Path, target: Path) -> None:
    """Move a file for good. It is in one of both places at every moment."""
    file.replace(target)
    for folder in (target.parent, file.parent):  # in this order: it must not be gone before it is there
        _settle_folder(folder)


def remove(file: Path) -> None:
    """Remove a file for good, if it is there: not even a power cut brings it back."""
    file.unlink(missing_ok=True)
    _settle_folder(file.parent)


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
