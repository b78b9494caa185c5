"""API keys: `sk_<id>_<secret><checksum>`.

The id (10 characters) is public and finds the row; the secret (43 characters, 256 bits) is kept
only as HMAC-SHA-256 under the coordinator's pepper; the checksum (6 characters, CRC-32) lets a
secret scanner recognise a key without a database. All in base 62, so that a double click selects
the whole key.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass, field

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(r"sk_([0-9A-Za-z]{10})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})")


@dataclass(frozen=True, slots=True)
class KeyText:
    """A key as its owner holds it. The secret never shows in a repr."""

    key_id: str
    secret: str = field(repr=False)

    def write(self) -> str:
        """Return the whole key as text."""
        return f"sk_{self.key_id}_{self.secret}{_checksum(self.key_id, self.secret)}"


def new_key() -> KeyText:
    """Draw a new key from the operating system's randomness."""
    return KeyText(key_id=_base62(secrets.randbits(59), 10), secret=_base62(secrets.randbits(256), 43))


def parse_key(text: str) -> KeyText | None:
    """Read a key; None if it does not have the form of one or its checksum is wrong."""
    match = _KEY.fullmatch(text)
    if match is None or match.group(3) != _checksum(match.group(1), match.group(2)):
        return None
    return KeyText(key_id=match.group(1), secret=match.group(2))


def secret_hmac(secret: str, *, pepper: bytes) -> str:
    """Return what is stored of a secret: its HMAC-SHA-256 in hexadecimal."""
    return hmac.new(pepper, secret.encode(), hashlib.sha256).hexdigest()


def _checksum(key_id: str, secret: str) -> str:
    return _base62(zlib.crc32(f"sk_{key_id}_{secret}".encode()), 6)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
