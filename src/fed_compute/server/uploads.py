"""Binary bodies that arrive in one piece or several: streamed to a file, hashed on the way, resumable.

A part that broke off stays under its task's name until the rest comes, its task is given back, or the
sweeper finds it a day later. Nothing of the client's own wording gets into a file name.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
from fastapi import Request

from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.coordinator.update_validator import Admission
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import (
    BodyTooLarge,
    DigestMismatch,
    LengthRequired,
    UpdateMalformed,
    UploadBusy,
    UploadOffsetMismatch,
)
from fed_compute.ids import Digest, TaskId
from fed_compute.protocol.digests import parse_content_digest
from fed_compute.protocol.messages import SAFETENSORS, SAFETENSORS_ZSTD
from fed_compute.protocol.updates import HEAD_BYTES, max_update_bytes, min_update_bytes
from fed_compute.server.bodies import content_length, pieces, require_type

PARTIAL_UPLOAD = "application/partial-upload"
_WRITE_BYTES = 1 << 20


class Uploads:
    """The bodies that are arriving, one at a time for each task."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._blobs = coordinator.blobs
        self._arriving: set[TaskId] = set()

    def path(self, task_id: TaskId) -> Path:
        """Return the file of a task's body. The id must be that of a task on record."""
        return self._blobs.incoming(f"{task_id}.update")

    def stored_bytes(self, task_id: TaskId) -> int:
        """Return how much of a task's body has come so far."""
        with contextlib.suppress(FileNotFoundError):
            return self.path(task_id).stat().st_size
        return 0

    @contextlib.contextmanager
    def claim(self, task_id: TaskId) -> Iterator[None]:
        """Keep other uploads of the task out while the block runs.

        Raises:
            UploadBusy: if one is under way.
        """
        if task_id in self._arriving:
            raise UploadBusy(task_id)
        self._arriving.add(task_id)
        try:
            yield
        finally:
            self._arriving.discard(task_id)

    async def receive(self, request: Request, task_id: TaskId, piece: "Piece") -> Digest:
        """Write the request's body to its place in the task's file.

        Returns the SHA-256 of the whole file so far; it is meaningful only for the last piece.

        Raises:
            ClientDisconnect, BodyStalled, BodyTooSlow: if the body breaks off; what came is kept.
            BodyTooLarge: if more comes than was announced.
            UpdateMalformed: if `piece.judge` refuses the first bytes; nothing is kept.
        """
        path, hasher = self.path(task_id), hashlib.sha256()
        if piece.is_last and piece.offset:
            await anyio.to_thread.run_sync(_hash_file, path, hasher)
        with path.open("r+b" if piece.offset else "wb") as file:
            file.seek(piece.offset)
            writer = _Writer(file, hasher)
            try:
                await _pump(request, writer, piece)
            finally:
                writer.flush()  # also when the body broke off: what has come need not come again
        return Digest(hasher.hexdigest())

    def drop(self, task_id: TaskId) -> None:
        """Forget what came of a task's body."""
        self.path(task_id).unlink(missing_ok=True)

    def abandon(self, task_id: TaskId) -> None:
        """Forget what came of the body of a task that has ended, unless it is arriving just now."""
        if task_id not in self._arriving:
            self.drop(task_id)


@dataclass(frozen=True, slots=True)
class Piece:
    """What of an update one request brings: `length` bytes at `offset`. `judge` looks at an update's first bytes."""

    offset: int
    length: int
    is_last: bool
    judge: Callable[[bytes], None]


class _Writer:
    """Collects pieces and writes them in blocks, hashing each byte once."""

    def __init__(self, file: BinaryIO, hasher: "hashlib._Hash") -> None:
        self._file = file
        self._hasher = hasher
        self._pending = bytearray()
        self.num_bytes = 0

    @property
    def pending(self) -> bytes:
        """What is not written yet."""
        return bytes(self._pending)

    def add(self, piece: bytes) -> bool:
        """Take a piece; say whether it is time to write."""
        self._pending += piece
        self.num_bytes += len(piece)
        return len(self._pending) >= _WRITE_BYTES

    def flush(self) -> None:
        """Write what is pending."""
        pending, self._pending = bytes(self._pending), bytearray()
        self._file.write(pending)
        self._hasher.update(pending)


async def _pump(request: Request, writer: _Writer, piece: Piece) -> None:
    judged = piece.offset > 0 or piece.length < HEAD_BYTES
    async for part in pieces(request):
        full = writer.add(part)
        if writer.num_bytes > piece.length:
            raise BodyTooLarge(got=writer.num_bytes, limit=piece.length)
        if not judged and writer.num_bytes >= HEAD_BYTES:
            piece.judge(writer.pending[:HEAD_BYTES])
            judged = True
        if full:
            await anyio.to_thread.run_sync(writer.flush)


def _hash_file(path: Path, hasher: "hashlib._Hash") -> None:
    with path.open("rb") as file:
        while block := file.read(_WRITE_BYTES):
            hasher.update(block)


def require_encoding(request: Request, admission: Admission) -> None:
    """Check the body's type against the recipe.

    Raises:
        ContentTypeUnsupported: if the type is another one, or `Content-Encoding` is used: the recipe
            alone says how a body is compressed.
    """
    compressed = spec_of(admission.job).wire.compression == "zstd"
    require_type(request, SAFETENSORS_ZSTD if compressed else SAFETENSORS)


def announced_length(request: Request, *, limit: int, least: int = 0) -> int:
    """Return the length in bytes that the request announces for its body.

    Raises:
        LengthRequired: if it announces none.
        BodyTooLarge: if it is above `limit`.
        UpdateMalformed: if it is below `least`.
    """
    length = content_length(request)
    if length is None:
        raise LengthRequired
    if length > limit:
        raise BodyTooLarge(got=length, limit=limit)
    if length < least:
        raise UpdateMalformed(f"{length} bytes are announced; what an update of this job needs is {least} to {limit}")
    return length


def length_bounds(admission: Admission) -> tuple[int, int]:
    """Return the lengths in bytes that no legal body for a task goes below or above."""
    wire, num_parameters = spec_of(admission.job).wire, schema_of(admission.job).num_parameters
    shortest, longest = (
        bound(
            num_parameters=num_parameters,
            encoding=wire.encoding,
            compression=wire.compression,
            topk_fraction=wire.topk_fraction,
        )
        for bound in (min_update_bytes, max_update_bytes)
    )
    return shortest, longest


def announced_digest(request: Request) -> Digest:
    """Return the SHA-256 that a request announces for the whole update.

    Raises:
        DigestMissing: if it announces none, two, or none that can be read.
    """
    return parse_content_digest(", ".join(request.headers.getlist("content-digest")) or None)


def require_offset(*, got: int, stored: int) -> None:
    """Check that a piece begins where the stored part ends.

    Raises:
        UploadOffsetMismatch: if it does not.
    """
    if got != stored:
        raise UploadOffsetMismatch(got=got, want=stored)


def require_digest(*, got: Digest, announced: Digest) -> None:
    """Check that what came is what was announced.

    Raises:
        DigestMismatch: if it is not.
    """
    if got != announced:
        raise DigestMismatch(got=got, want=announced)
