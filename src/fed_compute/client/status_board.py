"""The picture of a client on the disk, for whoever asks what it does."""

import os
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fed_compute.client.observer import MANY
from fed_compute.client.private_files import replace as replace_file
from fed_compute.client.status import Status, Today, after
from fed_compute.clock import Clock

SHORTEST_SECONDS = 1.0
"""Progress is written no more often than this."""

_STATUS = TypeAdapter(Status)


def read_status(file: Path) -> Status | None:
    """Return the picture in a file; None if there is none that this version can read."""
    try:
        return _STATUS.validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


class StatusBoard:
    """Watches one run of a client and keeps its picture. A disk that is full keeps the old one, and is not told."""

    def __init__(self, file: Path, clock: Clock, *, coordinator: str, run: str) -> None:
        self._file = file
        self._clock = clock
        now = clock.now()
        self._status = Status(coordinator, os.getpid(), run, started_at=now, updated_at=now, since=now)
        self._written_at = clock.monotonic()

    def begin(self) -> None:
        """Take the place of the last run's picture, and go on from its counts of today."""
        last = read_status(self._file)
        self._status = replace(self._status, today=Today() if last is None else last.today)
        self._write()

    def event(self, name: str, **fields: object) -> None:
        """Take note of one event."""
        now = self._clock.now()
        self._status = after(self._status, name, fields, now=now, today=datetime.fromtimestamp(now).date())
        if name not in MANY or self._clock.monotonic() - self._written_at >= SHORTEST_SECONDS:
            self._write()

    def _write(self) -> None:
        self._written_at = self._clock.monotonic()
        with suppress(OSError):  # a client works on when nobody can see it
            replace_file(self._file, _STATUS.dump_json(self._status), durable=False)
