"""One file that holds a whole data folder, made while the coordinator works.

A tar file, readable with any tar: `backup.json` first (what it is, when, of how much), then the records of one
moment, the secrets, and every blob that those records name. Blobs never change, so copying them after the
records gives a picture of one moment.
"""

import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO

from fed_compute.coordinator.data_dir import DATABASE, SECRETS
from fed_compute.coordinator.sweeper import referenced
from fed_compute.coordinator.verify import Report, verify_data_dir
from fed_compute.errors import BackupUnusable, BlobCorrupt, BlobMissing, DataDirTaken, DataDirUnusable
from fed_compute.ids import Digest
from fed_compute.storage.blobs import LocalBlobStore, sync
from fed_compute.storage.sql.copies import copy_sqlite
from fed_compute.storage.sql.database import open_database
from fed_compute.storage.sql.store import Store

FORMAT = "fed-compute-backup/1"
HEADER = "backup.json"
BLOCK_BYTES = 1 << 20

_MEMBER = re.compile(
    rf"(?:{re.escape(DATABASE)}|{'|'.join(map(re.escape, SECRETS))}|blobs/([0-9a-f]{{2}})/(\1[0-9a-f]{{62}}))"
)

OnProgress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds."""

    made_at: float
    num_blobs: int
    num_bytes: int


def write_backup(
    data_dir: Path, target: Path, *, now: float, on_progress: OnProgress = lambda done, total: None
) -> Backup:
    """Write the backup of a data folder, durable when this returns; a coordinator may be working on it.

    The file holds the folder's secrets and is readable by its owner only. It appears as a whole or not at all.
    Memory: one block. Room: the database once more beside the target, for a while.

    Raises:
        DataDirUnusable: if there is no coordinator's data in the folder.
        BackupUnusable: if the target exists or cannot be written.
        BlobMissing, BlobCorrupt: if the folder is damaged; `fed-compute verify` lists what.
    """
    if not (data_dir / DATABASE).is_file():
        raise DataDirUnusable(f"{data_dir} holds no coordinator data (no {DATABASE}); name a --data-dir")
    if target.exists():
        raise BackupUnusable(f"{target} exists already; name another file")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as folder:
            unfinished = Path(folder) / "tar"
            backup = _write(data_dir, Path(folder) / DATABASE, unfinished, now=now, on_progress=on_progress)
            unfinished.replace(target)
            sync(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise BackupUnusable(f"the backup {target} cannot be written ({error})") from error
    return backup


def _write(data_dir: Path, copy: Path, unfinished: Path, *, now: float, on_progress: OnProgress) -> Backup:
    copy_sqlite(data_dir / DATABASE, copy)
    blobs = LocalBlobStore(data_dir / "blobs")
    sizes = {digest: _size(blobs, digest) for digest in _named(copy)}
    backup = Backup(now, len(sizes), copy.stat().st_size + sum(sizes.values()))
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        header = {
            "format": FORMAT, "written_by": version("fed-compute"), "made_at": now, "num_blobs": backup.num_blobs,
            "num_bytes": backup.num_bytes,
        }  # fmt: skip
        _add(tar, HEADER, io.BytesIO(json.dumps(header).encode()), now=now)
        _add_file(tar, DATABASE, copy, now=now)
        for name in SECRETS:
            if (data_dir / name).exists():
                _add_file(tar, name, data_dir / name, now=now)
        done = copy.stat().st_size
        on_progress(done, backup.num_bytes)
        for digest, size in sizes.items():
            if (got := _add_file(tar, f"blobs/{digest[:2]}/{digest}", blobs.path(digest), now=now)) != digest:
                raise BlobCorrupt(digest=digest, got=got)
            done += size
            on_progress(done, backup.num_bytes)
        tar.close()
        file.flush()
        os.fsync(file.fileno())
    return backup


def restore_backup(source: Path, data_dir: Path, *, on_progress: OnProgress = lambda done, total: None) -> Report:
    """Make a data folder of a backup and return what `verify` says of it. A folder with a breach is not put in place.

    Memory: one block, then as `verify`. Cost: every version is rebuilt.

    Raises:
        BackupUnusable: if the file is no backup, is cut short or damaged, or cannot be read.
        DataDirTaken: if there is something in the folder already.
        DataDirUnusable: if the folder cannot be written.
    """
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise DataDirTaken(str(data_dir), holds_run=(data_dir / DATABASE).exists())
    try:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_dir.parent, prefix=f".{data_dir.name}-") as folder:
            unfinished = Path(folder) / "data"
            unfinished.mkdir()
            with _opened(source) as tar:
                _extract(tar, unfinished, source, on_progress)
            report = verify_data_dir(unfinished)
            if not report.breaches:
                unfinished.replace(data_dir)
                sync(data_dir.parent)
    except OSError as error:
        raise DataDirUnusable(f"{data_dir} cannot be written ({error})") from error
    return report


@contextmanager
def _opened(source: Path) -> Iterator[tarfile.TarFile]:
    try:
        file = source.open("rb")
    except OSError as error:
        raise BackupUnusable(f"the backup {source} cannot be read ({error.strerror or error})") from error
    try:
        with file, tarfile.open(fileobj=file, mode="r:") as tar:
            yield tar
    except (tarfile.TarError, EOFError) as error:
        raise BackupUnusable(f"{source} is no backup, or is cut short ({error})") from error


def _extract(tar: tarfile.TarFile, target: Path, source: Path, on_progress: OnProgress) -> None:
    members = iter(tar)
    total, done = _read_header(tar, next(members, None), source), 0
    for member in members:
        match = _MEMBER.fullmatch(member.name)
        if match is None or not member.isreg() or (target / member.name).exists():
            raise BackupUnusable(f"{source} holds {member.name[:200]!r}, which no backup has there")
        path = target / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        body = tar.extractfile(member)
        if body is None:
            raise BackupUnusable(f"{source}: {member.name} has no contents")
        got = _write_durably(path, body)
        if path.stat().st_size != member.size or (match[2] is not None and got != match[2]):
            raise BackupUnusable(f"{source}: {member.name} is not what it was; use another backup")
        sync(path.parent)
        done += member.size
        on_progress(done, max(done, total))
    if not (target / DATABASE).exists():
        raise BackupUnusable(f"{source} holds no records (no {DATABASE})")


def _read_header(tar: tarfile.TarFile, first: tarfile.TarInfo | None, source: Path) -> int:
    """Return how many bytes a backup says it holds."""
    body = tar.extractfile(first) if first is not None and first.isreg() and first.name == HEADER else None
    try:
        header = json.loads(body.read(BLOCK_BYTES)) if body is not None else {}
        if header["format"] != FORMAT:
            raise BackupUnusable(f"{source} is of the form {str(header['format'])[:80]!r}, wanted {FORMAT!r}")
        return int(header["num_bytes"])
    except (ValueError, KeyError, TypeError) as error:
        raise BackupUnusable(f"{source} is no backup of fed-compute (it does not begin with {HEADER})") from error


def _named(database: Path) -> list[Digest]:
    """Return the digests of all blobs that the records in a file name."""
    with closing(Store(open_database(f"sqlite:///{database}"))) as store, store.snapshot() as records:
        return sorted(Digest(digest) for digest in referenced(records))


def _size(blobs: LocalBlobStore, digest: Digest) -> int:
    size = blobs.size(digest)
    if size is None:
        raise BlobMissing(digest)
    return size


def _add_file(tar: tarfile.TarFile, name: str, path: Path, *, now: float) -> str:
    """Add a file; return the SHA-256 of what went in."""
    with path.open("rb") as file:
        return _add(tar, name, file, now=now)


def _add(tar: tarfile.TarFile, name: str, file: IO[bytes], *, now: float) -> str:
    member, hashing = tarfile.TarInfo(name), _Hashing(file)
    member.size, member.mode, member.mtime = file.seek(0, os.SEEK_END), 0o600, int(now)
    file.seek(0)
    tar.addfile(member, hashing)
    return hashing.digest.hexdigest()


class _Hashing(io.RawIOBase):
    """A file that hashes what is read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        body = self._file.read(size)
        self.digest.update(body)
        return body


def _write_durably(path: Path, body: IO[bytes]) -> str:
    """Write a new file for its owner's eyes; return its SHA-256."""
    hashing = _Hashing(body)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        shutil.copyfileobj(hashing, file, BLOCK_BYTES)
        file.flush()
        os.fsync(file.fileno())
    return hashing.digest.hexdigest()
