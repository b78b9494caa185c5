"""Files that commands write: whole or not at all, and never over another one unawares."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fed_compute.errors import SettingInvalid

Force = Annotated[bool, typer.Option("--force", help="Write over what is there.")]


def require_new(path: Path, *, force: bool) -> None:
    """Check that something can be written to a path, before any work is done for it.

    Raises:
        SettingInvalid: if something is there already and `force` is not given, or there is no such folder.
    """
    if not path.absolute().parent.is_dir():
        raise SettingInvalid(f"{path} is in a folder that does not exist; make it, or name another with --out")
    if path.exists() and not force:
        raise SettingInvalid(f"{path} exists already; name another one with --out, or write over it with --force")


@contextmanager
def new_path(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write a file or a folder to; it takes its place when the block ends.

    If the block fails, what was there before is untouched. If the process dies it is, too, but for a moment in which
    a folder that was there lies beside `path`.

    Raises:
        SettingInvalid: if the disk does not let it be written.
    """
    new = path.with_name(f".{path.name}.new")
    try:
        _remove(new)
        yield new
        _settle(new)
        _take_place(new, path)
    except OSError as error:
        raise SettingInvalid(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        _remove(new)


def _take_place(new: Path, path: Path) -> None:
    if not path.is_dir():
        new.replace(path)
        return
    old = path.with_name(f".{path.name}.old")  # of two folders none can be moved over the other
    _remove(old)
    path.replace(old)
    try:
        new.replace(path)
    except OSError:
        old.replace(path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _settle(path: Path) -> None:
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
