"""SHA-256 names of bytes, and how HTTP announces them (`Content-Digest`, RFC 9530)."""

import base64
import binascii
import hashlib

from fed_compute.errors import DigestMissing
from fed_compute.ids import Digest

_BYTES = hashlib.sha256().digest_size


def sha256_hex(content: bytes | bytearray | memoryview) -> Digest:
    """Return the SHA-256 of `content` in lower-case hexadecimal. Reads at about 1 to 2 GB/s."""
    return Digest(hashlib.sha256(content).hexdigest())


def format_content_digest(digest: str) -> str:
    """Write a hexadecimal SHA-256 as a `Content-Digest` value: `sha-256=:<base64>:`."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode('ascii')}:"


def parse_content_digest(header: str | None) -> Digest:
    """Read the SHA-256 out of a `Content-Digest` header (RFC 9530). Other algorithms beside it are skipped.

    Raises:
        DigestMissing: if there is no header, no single sha-256 in it, or its value is not 32 bytes in base64.
    """
    if header is None:
        raise DigestMissing("missing")
    members = [member.strip(" \t").partition("=") for member in header.split(",")]
    values = [value for algorithm, _, value in members if algorithm == "sha-256"]
    if len(values) != 1:
        raise DigestMissing(f"without sha-256: {header[:80]!r}" if not values else "ambiguous: sha-256 comes twice")
    value = values[0]
    if len(value) < 2 or value[0] != ":" or value[-1] != ":":
        raise DigestMissing(f"not of the form sha-256=:<base64>:, found {value[:80]!r}")
    try:
        digest = base64.b64decode(value[1:-1], validate=True)
    except (binascii.Error, ValueError) as error:
        raise DigestMissing(f"not base64: {value[:80]!r}") from error
    if len(digest) != _BYTES:
        raise DigestMissing(f"{len(digest)} bytes long, a SHA-256 has {_BYTES}")
    return Digest(digest.hex())
