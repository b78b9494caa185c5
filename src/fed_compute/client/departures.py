"""The log of what left this machine: one JSON line each, on the disk before the first byte is sent.

`log.jsonl` and, before it, `log.1.jsonl`; kept updates in `updates/`. All clients that share a state
folder write to one log.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from fed_compute.client.private_files import append, locked_folder, replace
from fed_compute.clock import Clock
from fed_compute.errors import StateUnusable
from fed_compute.protocol.digests import sha256_hex

Kind = Literal["registration", "update", "evaluation", "audit"]
_LOG, _OLDER = "log.jsonl", "log.1.jsonl"
_UPDATES = "updates"


@dataclass(frozen=True, slots=True)
class Departure:
    """One thing that left, or was about to. `says` is every field beside an update's values, secrets left out.

    `at` is Unix seconds. `norm` has `trained`, `sent` and `limit` of an update. `kept` names the copy.
    """

    at: float
    coordinator: str
    kind: Kind
    num_bytes: int
    sha256: str
    job: str | None = None
    round_id: int | None = None
    model_version: str | None = None
    task_id: str | None = None
    says: Mapping[str, Any] = field(default_factory=dict)
    norm: Mapping[str, float | None] | None = None
    kept: str | None = None


@dataclass(frozen=True, slots=True)
class SentLog:
    """What a log holds, oldest first. `damaged` lines are half written ones, of a crash."""

    departures: list[Departure]
    damaged: int
    rotated: bool
    """Whether entries older than these may have been dropped to keep the log small."""


_DEPARTURE = TypeAdapter(Departure)


class DepartureLog:
    """Writes the log of one state folder. It holds at most `max_bytes`, then its older half is dropped."""

    def __init__(self, folder: Path, clock: Clock, *, coordinator: str, max_bytes: int, keep_updates: int) -> None:
        self._folder = folder
        self._clock = clock
        self._coordinator = coordinator
        self._max_bytes = max_bytes
        self._keep_updates = keep_updates

    def write_down(self, kind: Kind, body: bytes, *, suffix: str = "safetensors", **facts: Any) -> None:
        """Log a body that is about to be sent; `facts` are further fields of `Departure`.

        Returns once the line, and the copy of an update if any is kept, would survive a power cut.

        Raises:
            StateUnusable: if that cannot be. Nothing may be sent then.
        """
        at, digest = self._clock.now(), sha256_hex(body)
        keep = kind == "update" and self._keep_updates > 0
        kept = f"{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%S.%fZ}-{digest[:16]}.{suffix}" if keep else None
        departure = Departure(at, self._coordinator, kind, len(body), digest, kept=kept, **facts)
        line = json.dumps({"time": _written(at), **asdict(departure)}, separators=(",", ":"), allow_nan=False).encode()
        with locked_folder(self._folder):
            if kept is not None:
                self._keep(kept, body)
            self._make_room(len(line) + 2)
            append(self._folder / _LOG, line)

    def names(self, body: bytes, *, task_id: str) -> bool:
        """Say whether a task's body is in the log. Reads all of it.

        Raises:
            StateUnusable: if the log cannot be read.
        """
        digest = sha256_hex(body)
        return any(one.task_id == task_id and one.sha256 == digest for one in read_sent(self._folder).departures)

    def _keep(self, name: str, body: bytes) -> None:
        folder = self._folder / _UPDATES
        folder.mkdir(mode=0o700, exist_ok=True)
        replace(folder / name, body)
        for old in sorted(path for path in folder.iterdir() if path.name[0] != ".")[: -self._keep_updates]:
            old.unlink()

    def _make_room(self, num_bytes: int) -> None:
        log = self._folder / _LOG
        if log.exists() and log.stat().st_size + num_bytes > self._max_bytes // 2:
            log.replace(self._folder / _OLDER)


def sent_folder(state_dir: Path) -> Path:
    """Return where a state folder keeps the log of what was sent."""
    return state_dir.expanduser() / "sent"


def read_sent(folder: Path) -> SentLog:
    """Read the log in a `sent_folder`; an absent one is empty.

    Raises:
        StateUnusable: if it is there and cannot be read.
    """
    departures: list[Departure] = []
    damaged, older = 0, folder / _OLDER
    for file in (older, folder / _LOG):
        for line in _lines(file):
            try:
                departures.append(_DEPARTURE.validate_json(line))
            except ValidationError:
                damaged += 1  # the caller is told how many
    return SentLog(departures, damaged, rotated=older.exists())


def _lines(file: Path) -> list[bytes]:
    try:
        return [line for line in file.read_bytes().split(b"\n") if line]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StateUnusable(f"the log {file} cannot be read: {error}") from error


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
