"""What a simulation came to, a row for each round."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from fed_compute.rounds.records import Round, RoundState
from fed_compute.simulator.world import Tally


@dataclass(frozen=True, slots=True)
class RoundRow:
    """One ended round. Times are virtual seconds since the start; bytes and counts are of this round alone.

    `accuracy` and `loss` are the model's on held-out samples after the round; accuracy is a fraction, None where there
    are no classes. `train_loss` is the mean that the accepted updates tell. `num_contributors` counts the clients that
    have ever been counted.
    """

    round: int
    state: str
    version: int
    ended_seconds: float
    duration_seconds: float
    accuracy: float | None
    loss: float
    train_loss: float | None
    num_updates: int
    num_leases: int
    num_vanished: int
    num_late: int
    num_stopped: int
    num_refused: int
    num_contributors: int
    mean_staleness: float
    max_staleness: int
    bytes_up: int
    bytes_down: int

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(RoundRow))


@dataclass(frozen=True, slots=True)
class Quality:
    """A model on held-out samples."""

    accuracy: float | None
    loss: float


def row_of(
    round_: Round,
    tally: Tally,
    quality: Quality,
    *,
    number: int,
    version: int,
    num_updates: int,
    num_contributors: int,
    began_at: float,
) -> RoundRow:
    """Return the row of an ended round; `began_at` is the start of the simulation, Unix seconds."""
    ended, started = round_.closed_at or began_at, max(began_at, round_.opened_at)
    return RoundRow(
        round=number,
        state="closed" if round_.state is RoundState.CLOSED else "abandoned",
        version=version,
        ended_seconds=round(ended - began_at, 3),
        duration_seconds=round(ended - started, 3),
        accuracy=None if quality.accuracy is None else round(quality.accuracy, 6),
        loss=round(quality.loss, 6),
        train_loss=round(sum(tally.losses) / len(tally.losses), 6) if tally.losses else None,
        num_updates=num_updates,
        num_leases=tally.leases,
        num_vanished=tally.vanished,
        num_late=tally.late,
        num_stopped=tally.stopped,
        num_refused=tally.refused,
        num_contributors=num_contributors,
        mean_staleness=round(sum(tally.staleness) / max(1, len(tally.staleness)), 3),
        max_staleness=max(tally.staleness, default=0),
        bytes_up=tally.bytes_up,
        bytes_down=tally.bytes_down,
    )
