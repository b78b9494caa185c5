"""What the owner wants a running client to do: go on, pause, or finish. A file says it, so it survives both sides.

A pause holds until it is taken back or its time is over, also for the client's next start. A finish is said to one run
of a client and means nothing to the next.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from fed_compute.client.private_files import locked_folder, replace
from fed_compute.clock import Clock
from fed_compute.errors import StateUnusable

LOOK_SECONDS = 0.25
"""A running client looks at its owner's wish this often."""


@dataclass(frozen=True, slots=True)
class Wish:
    """`until` is when a pause ends, Unix seconds, None for not by itself; `run` is whom a finish is for."""

    kind: Literal["go", "pause", "finish"] = "go"
    until: float | None = None
    run: str | None = None

    def pauses(self, now: float) -> bool:
        """Say whether a client should do nothing at this moment, Unix seconds."""
        return self.kind == "pause" and (self.until is None or now < self.until)

    def finishes(self, run: str) -> bool:
        """Say whether this run of a client should end after its task."""
        return self.kind == "finish" and self.run == run


_WISH = TypeAdapter(Wish)


def read_wish(file: Path) -> Wish:
    """Return the wish in a file; to go on, if there is none.

    Raises:
        StateUnusable: if it cannot be read or understood. A pause is never taken for none then.
    """
    try:
        return _WISH.validate_json(file.read_bytes())
    except FileNotFoundError:
        return Wish()
    except (OSError, ValidationError) as error:
        raise StateUnusable(f"{file} does not say whether to pause or to go on; remove it to go on") from error


def write_wish(file: Path, wish: Wish) -> None:
    """Write a wish down, whole and durably.

    Raises:
        StateUnusable: if it cannot be written. The old one stands.
    """
    with locked_folder(file.parent):
        replace(file, _WISH.dump_json(wish))


class Wishes:
    """The wish for one run of a client, looked at again every `LOOK_SECONDS`.

    Raises (every call):
        StateUnusable: if the file cannot be understood.
    """

    def __init__(self, file: Path, clock: Clock, *, run: str) -> None:
        self._file = file
        self._clock = clock
        self._run = run
        self._wish = Wish()
        self._look_at = clock.monotonic()

    def pause(self) -> Wish | None:
        """Return the pause that holds now, None if none does."""
        wish = self._now()
        return wish if wish.pauses(self._clock.now()) else None

    def is_finishing(self) -> bool:
        """Say whether this run should end after its task."""
        return self._now().finishes(self._run)

    def _now(self) -> Wish:
        if (now := self._clock.monotonic()) >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._wish = read_wish(self._file)
        return self._wish


def pause_reason(wish: Wish) -> str:
    """Return what a pause is to its owner, in words."""
    until = "" if wish.until is None else f" until {time.strftime('%H:%M:%S', time.localtime(wish.until))}"
    return f"you paused this client{until}; fed-compute resume goes on"
