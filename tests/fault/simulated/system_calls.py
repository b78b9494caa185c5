"""What the process calls instead of the operating system: its files lie on a simulated disk, its chance has a seed."""

import io
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fault.simulated.disk import Disk
from tests.fault.simulated.faults import PowerCut
from tests.fault.simulated.tree import File, Folder

_WRITING = frozenset("wax+")
_open, _os_open, _fsync = io.open, os.open, os.fsync
_replace, _mkdir, _unlink = os.replace, os.mkdir, os.unlink


class OpenFile:
    """A file that is open for writing. Each write goes to the system at once and is one persistence call."""

    def __init__(self, disk: Disk, raw: Any) -> None:
        self._disk = disk
        self._raw = raw

    def write(self, body: Any) -> int:
        """Write bytes or text; a torn or failing write has written half."""

        def put(part: Any) -> int:
            written: int = self._raw.write(part)
            self._raw.flush()
            self._disk.note_written(self._raw.fileno())
            return written

        if not len(body):
            return 0
        return self._disk.perform("write", lambda: put(body), torn=lambda: put(body[: len(body) // 2]))

    def __enter__(self) -> "OpenFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._raw.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


class SystemCalls:
    """Stands between the process and its files. Files elsewhere are none of the disk's business."""

    def __init__(self, disk: Callable[[], Disk]) -> None:
        self._disk = disk
        self._handles: dict[int, tuple[File | Folder, Path]] = {}

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Take the place of the system's calls."""
        patch.setattr(io, "open", self._open)
        patch.setattr(os, "open", self._open_handle)
        patch.setattr(os, "fsync", self._sync)
        patch.setattr(os, "replace", self._rename)
        patch.setattr(os, "mkdir", self._make_folder)
        patch.setattr(os, "unlink", self._remove)

    def _open(self, file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if _WRITING.isdisjoint(mode):
            return _open(file, mode, *arguments, **named)
        path = Path() if isinstance(file, int) else Path(file)
        raw = self._made(path, lambda: _open(file, mode, *arguments, **named))
        node, path = self._handles.pop(file, (None, path)) if isinstance(file, int) else (self._node(path), path)
        self._handles.pop(raw.fileno(), None)
        if not isinstance(node, File):
            return raw
        self._handles[raw.fileno()] = (node, path)
        if "w" in mode:
            self._disk().note_written(raw.fileno())  # what it held is gone
        return OpenFile(self._disk(), raw)

    def _open_handle(self, path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        def act() -> int:
            return _os_open(path, flags, *arguments, **named)

        place = Path(os.fspath(path))
        handle = self._made(place, act) if flags & os.O_CREAT else act()
        self._handles.pop(handle, None)
        if (node := self._node(place)) is not None:
            self._handles[handle] = (node, place)
        return handle

    def _made(self, path: Path, act: Callable[[], Any]) -> Any:
        """Open by `act` a file that is made if there is none."""
        if not self._disk().holds(path) or self._node(path) is not None:
            return act()
        opened: list[Any] = []

        def open_it() -> Any:
            opened.append(act())
            return opened[0]

        try:
            return self._disk().create(path, open_it)
        except (OSError, PowerCut):
            for one in opened:  # nobody else knows it
                os.close(one) if isinstance(one, int) else one.close()
            raise

    def _node(self, path: Path) -> File | Folder | None:
        return self._disk().node(path) if self._disk().holds(path) else None

    def _sync(self, handle: int) -> None:
        if handle in self._handles:
            self._disk().sync(*self._handles[handle])
        else:
            _fsync(handle)

    def _rename(self, source: Any, target: Any) -> None:
        if self._disk().holds(Path(target)):
            self._disk().rename(Path(source), Path(target), lambda: _replace(source, target))
        else:
            _replace(source, target)

    def _make_folder(self, path: Any, mode: int = 0o777) -> None:
        place = Path(path)
        if self._disk().holds(place) and place.parent.exists() and not place.exists():
            self._disk().make_folder(place, lambda: _mkdir(path, mode))
        else:
            _mkdir(path, mode)

    def _remove(self, path: Any, **named: Any) -> None:
        place = Path(path)
        if self._disk().holds(place) and place.exists():
            self._disk().remove(place, lambda: _unlink(path))
        else:
            _unlink(path, **named)


class Entropy:
    """The system's entropy, drawn from a seed: keys, ids and every generator that nobody seeds are the same again."""

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Take the place of the system's entropy."""
        patch.setattr(os, "urandom", self._chance.randbytes)
        patch.setattr(random, "_urandom", self._chance.randbytes)
