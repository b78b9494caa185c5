"""Files and folders as they are, and as they are after a power cut."""

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.fault.simulated.faults import Loss


@dataclass(eq=False, slots=True)
class File:
    """A file. `durable` are its bytes after a power cut, None if it was never synced."""

    durable: bytes | None = None
    dropped: bytes | None = None
    """Bytes that a failed sync has lost: syncing them again does nothing."""

    def sync(self, body: bytes) -> None:
        """Make the present bytes durable, unless the system holds them for written and they are not."""
        if body != self.dropped:
            self.durable, self.dropped = body, None


@dataclass(eq=False, slots=True)
class Folder:
    """A folder: its names as they are, and as they are after a power cut."""

    now: "dict[str, File | Folder]" = field(default_factory=dict)
    durable: "dict[str, File | Folder]" = field(default_factory=dict)

    def sync(self) -> None:
        """Make the present names durable."""
        self.durable = dict(self.now)


def durable_tree(path: Path, *, leaving_out: tuple[str, ...]) -> Folder:
    """Return a folder as a machine finds it when it starts: what is there is on the disk, but for names that end so."""
    names: dict[str, File | Folder] = {}
    for entry in sorted(path.iterdir()):
        if entry.is_dir():
            names[entry.name] = durable_tree(entry, leaving_out=leaving_out)
        elif not entry.name.endswith(leaving_out):
            names[entry.name] = File(entry.read_bytes())
    return Folder(dict(names), names)


@dataclass(frozen=True, slots=True)
class Survivors:
    """Writes what a power cut leaves of a tree. `chance` tosses where `loss` leaves it open."""

    loss: Loss
    chance: random.Random
    now: float
    """The age of files that are brought back, Unix seconds."""

    def save(self, folder: Folder, source: Path, target: Path) -> None:
        """Write what is left of the folder at `source` into a new one at `target`."""
        target.mkdir()
        for name in sorted(folder.now.keys() | folder.durable.keys()):
            left = folder.now.get(name) if self._is_kept() else folder.durable.get(name)
            is_current = left is folder.now.get(name)
            if isinstance(left, Folder):
                self.save(left, source / name, target / name)
            elif left is not None:
                current = (source / name).read_bytes() if is_current else left.durable or b""
                (target / name).write_bytes(self._bytes_left(left, current))
                written = (source / name).stat().st_mtime if is_current else self.now
                os.utime(target / name, (written, written))

    def _is_kept(self) -> bool:
        return self.loss is Loss.NONE or (self.loss is Loss.SOME and self.chance.random() < 0.5)

    def _bytes_left(self, file: File, current: bytes) -> bytes:
        durable = file.durable or b""
        if self.loss is Loss.ALL or current == durable:
            return durable
        if self.loss is Loss.NONE:
            return current
        cut = self.chance.randint(0, len(current))
        beginning = current[:cut]
        return self.chance.choice([durable, current, beginning, beginning.ljust(len(current), b"\0")])
