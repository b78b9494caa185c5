"""Binary bodies that arrive in one piece or several: streamed to a file, hashed on the way, resumable.

A part that broke off stays under its task's name until the rest comes, or until the sweeper finds
it a day later. Nothing of the client's own wording gets into a file name.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.coordinator.update_validator import Admission
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import (
    BodyTooLarge,
    ContentTypeUnsupported,
    DigestMismatch,
    LengthRequired,
    UploadBusy,
    UploadOffsetMismatch,
)
from fed_compute.ids import Digest, TaskId
from fed_compute.protocol.messages import SAFETENSORS, SAFETENSORS_ZSTD
from fed_compute.protocol.updates import max_update_bytes
from fed_compute.server.bodies import content_length, media_type, next_message

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

    async def receive(self, request: Request, task_id: TaskId, *, offset: int, length: int, last: bool) -> Digest:
        """Write the request's body, `length` bytes, at `offset` of the task's file.

        Returns the SHA-256 of the whole file so far; it is meaningful only for the `last` piece.

        Raises:
            ClientDisconnect, BodyStalled: if the body breaks off; what came is kept.
            BodyTooLarge: if more comes than was announced.
        """
        path, hasher = self.path(task_id), hashlib.sha256()
        if last and offset:
            await anyio.to_thread.run_sync(_hash_file, path, hasher)
        with path.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            writer = _Writer(file, hasher)
            try:
                await _pump(request, writer, length)
            finally:
                writer.flush()  # also when the body broke off: what has come need not come again
        return Digest(hasher.hexdigest())

    def drop(self, task_id: TaskId) -> None:
        """Forget what came of a task's body."""
        self.path(task_id).unlink(missing_ok=True)


class _Writer:
    """Collects pieces and writes them in blocks, hashing each byte once."""

    def __init__(self, file: BinaryIO, hasher: "hashlib._Hash") -> None:
        self._file = file
        self._hasher = hasher
        self._pending = bytearray()
        self.num_bytes = 0

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


async def _pump(request: Request, writer: _Writer, length: int) -> None:
    more = True
    while more:
        message = await next_message(request)
        if message["type"] != "http.request":
            raise ClientDisconnect
        if writer.add(message.get("body", b"")):
            await anyio.to_thread.run_sync(writer.flush)
        more = message.get("more_body", False)
        if writer.num_bytes > length:
            raise BodyTooLarge(got=writer.num_bytes, limit=length)


def _hash_file(path: Path, hasher: "hashlib._Hash") -> None:
    with path.open("rb") as file:
        while block := file.read(_WRITE_BYTES):
            hasher.update(block)


def longest_body(admission: Admission) -> int:
    """Return the length in bytes of the longest legal body for a task."""
    wire = spec_of(admission.job).wire
    return max_update_bytes(
        num_parameters=schema_of(admission.job).num_parameters,
        encoding=wire.encoding,
        compression=wire.compression,
        topk_fraction=wire.topk_fraction,
    )


def require_encoding(request: Request, admission: Admission) -> None:
    """Check the body's type against the recipe.

    Raises:
        ContentTypeUnsupported: if the type is another one, or `Content-Encoding` is used: the recipe
            alone says how a body is compressed.
    """
    compressed = spec_of(admission.job).wire.compression == "zstd"
    require_type(request, SAFETENSORS_ZSTD if compressed else SAFETENSORS)


def require_type(request: Request, wanted: str) -> None:
    """Check the body's type.

    Raises:
        ContentTypeUnsupported: if it is not exactly `wanted`, or has a `Content-Encoding`.
    """
    if (coding := request.headers.get("content-encoding")) is not None:
        raise ContentTypeUnsupported(got=f"Content-Encoding: {coding[:80]}", want="a body without Content-Encoding")
    if media_type(request) != wanted:
        raise ContentTypeUnsupported(got=request.headers.get("content-type", "")[:80], want=wanted)


def announced_length(request: Request, *, limit: int) -> int:
    """Return the length that the request announces for its body.

    Raises:
        LengthRequired: if it announces none.
        BodyTooLarge: if it is above `limit`.
    """
    length = content_length(request)
    if length is None:
        raise LengthRequired
    if length > limit:
        raise BodyTooLarge(got=length, limit=limit)
    return length


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
