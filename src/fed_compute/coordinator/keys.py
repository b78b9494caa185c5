"""The written form of secrets: API keys `sk_<id>_<secret><checksum>` and invitations `inv_<id>_<secret><checksum>`.

The id (10 characters) is public and finds the row; the secret (43 characters, 256 bits, in a key; 22 characters, 128
bits, in an invitation) is kept only as HMAC-SHA-256 under the coordinator's pepper; the checksum (6 characters, CRC-32)
lets a secret scanner recognise it without a database. All in base 62, so that a double click selects the whole.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass, field

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_KEY = re.compile(r"sk_([0-9A-Za-z]{10})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})")
_INVITE = re.compile(r"inv_([0-9A-Za-z]{10})_([0-9A-Za-z]{22})([0-9A-Za-z]{6})")
_NO_SECRET = "0" * 64


@dataclass(frozen=True, slots=True)
class KeyText:
    """A key as its owner holds it. The secret never shows in a repr."""

    key_id: str
    secret: str = field(repr=False)

    def write(self) -> str:
        """Return the whole key as text."""
        return f"sk_{self.key_id}_{self.secret}{_checksum('sk', self.key_id, self.secret)}"


@dataclass(frozen=True, slots=True)
class InviteText:
    """An invitation as its holder has it. The secret never shows in a repr."""

    invite_id: str
    secret: str = field(repr=False)

    def write(self) -> str:
        """Return the whole invitation as text."""
        return f"inv_{self.invite_id}_{self.secret}{_checksum('inv', self.invite_id, self.secret)}"


def new_key() -> KeyText:
    """Draw a new key from the operating system's randomness."""
    return KeyText(key_id=_new_id(), secret=_base62(secrets.randbits(256), 43))


def new_invite() -> InviteText:
    """Draw a new invitation from the operating system's randomness."""
    return InviteText(invite_id=_new_id(), secret=_base62(secrets.randbits(128), 22))


def parse_key(text: str) -> KeyText | None:
    """Read a key; None if it does not have the form of one or its checksum is wrong."""
    parts = _read(_KEY, "sk", text)
    return None if parts is None else KeyText(*parts)


def parse_invite(text: str) -> InviteText | None:
    """Read an invitation; None if it does not have the form of one or its checksum is wrong."""
    parts = _read(_INVITE, "inv", text)
    return None if parts is None else InviteText(*parts)


def secret_hmac(secret: str, *, pepper: bytes) -> str:
    """Return what is stored of a secret: its HMAC-SHA-256 in hexadecimal."""
    return hmac.new(pepper, secret.encode(), hashlib.sha256).hexdigest()


def secret_matches(secret: str, stored: str | None, *, pepper: bytes) -> bool:
    """Compare a secret with what is stored of it, in the same time whether it is right, wrong or not stored at all."""
    matches = hmac.compare_digest(secret_hmac(secret, pepper=pepper), stored if stored is not None else _NO_SECRET)
    return matches and stored is not None


def _new_id() -> str:
    return _base62(secrets.randbits(59), 10)


def _read(form: re.Pattern[str], kind: str, text: str) -> tuple[str, str] | None:
    match = form.fullmatch(text)
    if match is None or match.group(3) != _checksum(kind, match.group(1), match.group(2)):
        return None
    return match.group(1), match.group(2)


def _checksum(kind: str, name: str, secret: str) -> str:
    return _base62(zlib.crc32(f"{kind}_{name}_{secret}".encode()), 6)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
