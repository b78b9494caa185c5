"""What a sweep's simulations tell while they go on, as objects and as lines between processes."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from fed_compute.simulator.history import Quality, RoundRow
from fed_compute.simulator.sweeps.design import Run


@dataclass(frozen=True, slots=True)
class Planned:
    """Everything is checked, and these runs are going to be carried out. It comes first, and stays in its process."""

    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Began:
    """A run begins."""

    run: int


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A run has ended a round."""

    run: int
    row: RoundRow


@dataclass(frozen=True, slots=True)
class Ended:
    """A run is done and its report is written. `first`, `rounds` and `summary` are the report's."""

    run: int
    first: Quality
    rounds: tuple[RoundRow, ...]
    summary: dict[str, Any]
    wall_seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A run came to nothing, and why."""

    run: int
    message: str


Told = Began | RoundEnded | Ended | Failed
Event = Planned | Told
Tell = Callable[[Event], None]


def to_line(event: Told) -> str:
    """Write an event as one line of JSON."""
    return json.dumps({"kind": type(event).__name__, **asdict(event)}, separators=(",", ":"))


def from_line(line: str) -> Told:
    """Read what `to_line` wrote."""
    found = json.loads(line)
    match found.pop("kind"):
        case "Began":
            return Began(**found)
        case "RoundEnded":
            return RoundEnded(found["run"], RoundRow(**found["row"]))
        case "Ended":
            rounds = tuple(RoundRow(**row) for row in found["rounds"])
            return Ended(**{**found, "first": Quality(**found["first"]), "rounds": rounds})
    return Failed(**found)
