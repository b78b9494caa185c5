"""Files that tell whether they are whole: a head, parts of bytes, and at the end the SHA-256 of all before it."""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fed_compute.client.private_files import replace

_MAGIC = b"fed-compute sealed 1\n"
_LENGTH = struct.Struct("<Q")
_DIGEST_BYTES = hashlib.sha256().digest_size
_SHORTEST = len(_MAGIC) + _LENGTH.size + _DIGEST_BYTES


class TornFile(ValueError):
    """A file is not what was once written: cut short, changed, or of another program."""


@dataclass(frozen=True, eq=False)
class Sealed:
    """What a file held. The parts are views into one buffer."""

    head: Mapping[str, Any]
    parts: Sequence[memoryview]


def write_sealed(file: Path, head: Mapping[str, Any], parts: Sequence[bytes | memoryview], *, durable: bool) -> int:
    """Write a file anew, as `private_files.replace` does; return its length in bytes. No part is copied.

    `head` is plain JSON data; numbers keep every bit. Cost: one SHA-256 of the file.

    Raises:
        OSError: if it cannot be written. The old file is untouched.
    """
    views = [memoryview(part).cast("B") for part in parts]
    text = json.dumps({"head": head, "part_bytes": [len(view) for view in views]}, separators=(",", ":")).encode()
    content = [memoryview(_MAGIC), memoryview(_LENGTH.pack(len(text))), memoryview(text), *views]
    hasher = hashlib.sha256()
    for piece in content:
        hasher.update(piece)
    replace(file, *content, memoryview(hasher.digest()), durable=durable)
    return sum(map(len, content)) + _DIGEST_BYTES


def read_sealed(file: Path) -> Sealed:
    """Read a file that `write_sealed` wrote. Memory: the file once.

    Raises:
        FileNotFoundError: if there is none.
        OSError: if it cannot be read.
        TornFile: if it is not whole.
    """
    content = memoryview(file.read_bytes())
    if len(content) < _SHORTEST or content[: len(_MAGIC)] != _MAGIC:
        raise TornFile(f"{file} has {len(content)} bytes and does not begin as it should")
    sealed, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(sealed).digest() != digest:
        raise TornFile(f"{file} was changed or cut short: it does not hash to what stands at its end")
    # From here on it is what was written, so nothing is asked twice.
    (text_bytes,) = _LENGTH.unpack_from(sealed, len(_MAGIC))
    start = len(_MAGIC) + _LENGTH.size
    document = json.loads(bytes(sealed[start : start + text_bytes]))
    parts, start = [], start + text_bytes
    for num_bytes in document["part_bytes"]:
        parts.append(sealed[start : start + num_bytes])
        start += num_bytes
    return Sealed(document["head"], parts)
