"""A disk and a process that die at a chosen step, by kill or by power cut."""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

UNCOUNTED = ("status.json", ".status.json.new")
"""What only tells what happens; it is written without being counted."""


class DiedError(BaseException):
    """The process ended here. Nobody catches this."""


class FragileDisk:
    """Counts each step that reaches the disk, and dies at step `die_at`, from 1; None never.

    A kill loses only what was to come: files that were being written are cut in half. A power cut
    also takes back what was not synced: renames and removals whose folder was not, and half of the
    content of files that were not.
    """

    def __init__(self, patch: pytest.MonkeyPatch, *, die_at: int | None = None, power_cut: bool = False) -> None:
        self.steps = 0
        self._die_at = die_at
        self._power_cut = power_cut
        self._dead = False
        self._synced_bytes: dict[int, int] = {}  # by inode
        self._unsettled: dict[Path, list[Callable[[], None]]] = {}  # by folder, what takes it back
        self._unsynced: dict[Path, bytes] = {}  # what is left of such a file
        self._real = {name: getattr(os, name) for name in ("replace", "unlink")}
        for name in ("fsync", *self._real):
            patch.setattr(os, name, getattr(self, f"_{name}"))

    def step(self, cut: Callable[[], None] = lambda: None) -> None:
        """Count one step, before it is done; `cut` is what is left of it if the process dies here."""
        if self._dead:
            raise DiedError
        self.steps += 1
        if self.steps == self._die_at:
            self._dead = True
            cut()
            if self._power_cut:
                self._lose_what_is_not_safe()
            raise DiedError

    def _lose_what_is_not_safe(self) -> None:
        for undo in [undo for undos in self._unsettled.values() for undo in reversed(undos)]:
            undo()
        for path, left in self._unsynced.items():
            _write(path, left)

    def _fsync(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self.step()
            self._unsettled.pop(Path(os.readlink(f"/proc/self/fd/{descriptor}")), None)
        else:
            safe = self._synced_bytes.get(found.st_ino, 0)
            self.step(lambda: os.ftruncate(descriptor, (safe + found.st_size) // 2))
            self._synced_bytes[found.st_ino] = found.st_size

    def _replace(self, source: Any, target: Any) -> None:
        source, target = Path(source), Path(target)
        if target.name in UNCOUNTED:
            self._real["replace"](source, target)
            return
        self.step()
        before, content, inode = _content(target), source.read_bytes(), source.stat().st_ino
        self._real["replace"](source, target)
        self._unsynced.pop(target, None)
        if inode not in self._synced_bytes:
            self._unsynced[target] = content[: len(content) // 2]
            return

        def undo() -> None:
            _write(target, before)
            _write(source, content)

        self._unsettled.setdefault(target.parent, []).append(undo)

    def _unlink(self, path: Any, *args: Any, **named: Any) -> None:
        path = Path(path)
        if path.name in UNCOUNTED or not path.exists():
            self._real["unlink"](path, *args, **named)
            return
        self.step()
        content = _content(path)
        self._real["unlink"](path, *args, **named)
        if self._unsynced.pop(path, None) is None:
            self._unsettled.setdefault(path.parent, []).append(lambda: _write(path, content))


def _content(path: Path) -> bytes | None:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return None


def _write(path: Path, content: bytes | None) -> None:
    """Put a file back as it was; None was no file."""
    if content is None:
        with suppress(FileNotFoundError):
            path.rename(path.with_name("gone"))
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(descriptor, content)
    os.close(descriptor)
