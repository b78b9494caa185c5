"""A small disk of its own: ext4 in a file, on a loop device. It can fill up, fail, and turn read-only."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

SHUTDOWN = 0x8004587D
"""`EXT4_IOC_SHUTDOWN`, of the kernel's fs/ext4/ext4.h; the kernel's own crash tests (xfstests `godown`) use it."""
WITHOUT_FLUSHING_THE_JOURNAL = struct.pack("I", 2)
SIZE_MIB = 256


class Disk:
    """A mounted file system that belongs to one test."""

    def __init__(self, folder: Path, image: Path, device: str) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        self._image = image
        self._device = device

    def fill(self, *, leave_bytes: int) -> None:
        """Leave room for so many bytes, about."""
        room = os.statvfs(self.folder)
        with self._ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize - leave_bytes))

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink()

    def fail(self) -> None:
        """Answer everything with EIO from now on. What was not synced is lost, as when the power goes."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, WITHOUT_FLUSHING_THE_JOURNAL)
        finally:
            os.close(handle)

    def turn_read_only(self) -> None:
        """Refuse to be written from now on, as ext4 does after an error of the disk."""
        _run("mount", "-o", "remount,abort", str(self.folder))

    def mount(self) -> None:
        """Mount the file system; its journal is replayed first."""
        _run("mount", "-t", "ext4", "-o", "errors=remount-ro", self._device, str(self.folder))

    def unmount(self) -> None:
        """Take the file system down. Nobody may have a file of it open."""
        _run("umount", str(self.folder))

    def repair(self) -> None:
        """Take the file system down and up again, as a restart of the machine does."""
        self.unmount()
        self.mount()


@contextmanager
def disk(place: Path) -> Iterator[Disk]:
    """Make a disk whose file lies in a folder; it is gone after the block. Needs root and loop devices."""
    image, folder = place / "disk.img", place / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE_MIB << 20)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
    device = _run("losetup", "--find", "--show", str(image))
    made = Disk(folder, image, device)
    try:
        made.mount()
        try:
            yield made
        finally:
            made.unmount()
    finally:
        _run("losetup", "--detach", device)
        image.unlink()


@cache
def why_no_disk() -> str | None:
    """Say why there can be no such disk on this machine, None if there can."""
    if os.geteuid() != 0:
        return "a disk of its own needs root"
    try:
        with TemporaryDirectory() as place, disk(Path(place)):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no disk of its own on this machine: {error}"


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
