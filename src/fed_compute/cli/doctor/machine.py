"""Looking at this machine: interpreter, packages, port, memory, clock, disk. Reads, and changes nothing."""

import contextlib
import ctypes
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from fed_compute.cli.doctor import judgements as judge
from fed_compute.cli.doctor.judgements import Finding
from fed_compute.clock import Clock

PYTHON = (3, 11)
WATCH_SECONDS = 0.2
_LISTENING = "0A"
_UNSYNCHRONISED = 5
_PROC = Path("/proc")


def program() -> list[Finding]:
    """Judge the interpreter and the packages that the base install needs."""
    found = {}
    for line in requires("fed-compute") or []:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            installed = installed_version(wanted.name)
            found[wanted.name] = (installed, installed is not None and wanted.specifier.contains(installed, True))
    return [judge.judge_python(sys.version_info[:3], wanted=PYTHON), judge.judge_packages(found)]


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, None if there is none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def memory(*, wanted_bytes: int) -> Finding:
    """Judge the memory that is available, to this container if it is one."""
    return judge.judge_memory(available_bytes=available_memory(), wanted_bytes=wanted_bytes)


def available_memory() -> int | None:
    """Return the bytes that new programs can have; None where the system does not tell."""
    with contextlib.suppress(OSError):
        match = re.search(r"^MemAvailable:\s+([0-9]+) kB$", (_PROC / "meminfo").read_text(), re.MULTILINE)
        if match is not None:
            return min(int(match[1]) << 10, *_left_to_group())
    return None


def _left_to_group() -> Iterator[int]:
    """Yield what is left to the control group, and something that is more than any memory."""
    yield 1 << 62
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no such group, or no limit, which is the word `max`
        yield int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())


def clock(watch: Clock) -> list[Finding]:
    """Judge this machine's clock alone. Takes a fifth of a second."""
    wall, steady = watch.now(), watch.monotonic()
    watch.sleep(WATCH_SECONDS)
    elapsed = watch.now() - wall, watch.monotonic() - steady
    return [
        judge.judge_year(time.gmtime(watch.now()).tm_year),
        judge.judge_pace(wall_seconds=elapsed[0], steady_seconds=elapsed[1]),
        judge.judge_time_service(is_synchronised()),
    ]


def is_synchronised() -> bool | None:
    """Say whether the kernel believes that a time service sets the clock; None where it does not tell."""
    if Path("/run/systemd/timesync/synchronized").exists():
        return True
    if not sys.platform.startswith("linux"):
        return None
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(1024))  # all zero: only read
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _UNSYNCHRONISED


def port(host: str, number: int) -> Finding:
    """Judge whether an address can be listened on, by doing so for an instant."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    refusal = None
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
            listener.listen(1)
        except OSError as error:
            refusal = error.strerror or str(error)
    owner = None if refusal is None or number == 0 else owner_of_port(number)
    return judge.judge_port(host, number, refusal=refusal, owner=owner)


def owner_of_port(number: int) -> str | None:
    """Return the program that listens on a port as `name (process 12)`; None if that cannot be seen from here."""
    tables = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            tables.append((_PROC / "net" / name).read_text())
    wanted = {f"socket:[{inode}]" for table in tables for inode in listening_inodes(table, number)}
    for process in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if any(os.readlink(handle) in wanted for handle in (process / "fd").iterdir()):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return f"{words[:80] or (process / 'comm').read_text().strip()} (process {process.name})"
    return None


def listening_inodes(table: str, number: int) -> Sequence[str]:
    """Return the inodes of the sockets that listen on a port, from the text of `/proc/net/tcp`."""
    rows = (line.split() for line in table.splitlines()[1:])
    return [row[9] for row in rows if row[3] == _LISTENING and int(row[1].rpartition(":")[2], 16) == number]


def space(check: str, folder: Path, *, wanted_bytes: int) -> Finding:
    """Judge the room on the disk of a folder, or of the nearest one above it that exists."""
    place = nearest_existing(folder)
    found = os.statvfs(place)
    return judge.judge_space(
        check,
        str(folder),
        free_bytes=found.f_bavail * found.f_frsize,
        wanted_bytes=wanted_bytes,
        free_files=found.f_favail if found.f_files else None,
    )


def nearest_existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def folder(check: str, path: Path, *, secrets: Sequence[str]) -> Finding:
    """Judge whether a folder can be made or written here, and whether others can read the secrets in it.

    `secrets` are patterns of file names, such as `credentials/*.json`.
    """
    try:
        return _folder(check, path, secrets=secrets)
    except PermissionError as error:
        return judge.bad(check, f"{error.filename or path} cannot be looked at", "choose one of your own")


def _folder(check: str, path: Path, *, secrets: Sequence[str]) -> Finding:
    place = nearest_existing(path)
    if not place.is_dir():
        return judge.bad(check, f"{place} is a file, wanted a folder", "choose another folder")
    if os.name == "posix" and (wrong := judge.judge_owner(check, str(place), **_owners(place))) and path.exists():
        return wrong
    if not os.access(place, os.W_OK | os.X_OK) or os.statvfs(place).f_flag & os.ST_RDONLY:
        return judge.bad(check, f"{place} cannot be written", "change its permissions, or choose another folder")
    files = [file for pattern in secrets for file in path.glob(pattern)]
    modes = {str(file): file.stat().st_mode & 0o7777 for file in files}
    if (wrong := judge.judge_secret_modes(check, modes)) is not None:
        return wrong
    return judge.well(check, str(path) if path.exists() else f"{path} will be made")


def _owners(place: Path) -> dict[str, int]:
    return {"owner_id": place.stat().st_uid, "own_id": os.getuid()}
