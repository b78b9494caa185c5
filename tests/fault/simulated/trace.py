"""What happened in a history, as one number: equal traces have equal digests."""

import hashlib


class Trace:
    """Takes in one event after the other and keeps nothing but SHA-256 of them all."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()

    def note(self, *facts: object) -> None:
        """Take in an event. Every fact must be written the same in every process."""
        self._hasher.update(f"{facts!r}\n".encode())

    def digest(self) -> str:
        """Return the digest of all events so far, in hexadecimal."""
        return self._hasher.hexdigest()
