"""What a simulation came to, a row for each round."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from fed_compute.coordinator.evaluations import quality_of
from fed_compute.rounds.records import Evaluation, Round, RoundState
from fed_compute.simulator.world import Tally


@dataclass(frozen=True, slots=True)
class RoundRow:
    """One ended round. Times are virtual seconds since the start; bytes and counts are of this round alone.

    `accuracy` and `loss` are the model's on held-out samples after the round, both None if it was not measured then;
    accuracy is a fraction, None where there are no classes. `train_loss` is the mean that the accepted updates tell.
    `num_contributors` counts the clients that have ever been counted.

    What begins with `federated_` is what clients measured of the round's version on data of their own, which they
    never train on, `federated_clients` of them: the means weighted by samples, as the coordinator shows them, and the
    10 % and 90 % quantiles over clients. None where nobody measured it, and in a row that is told before they have.
    """

    round: int
    state: str
    version: int
    ended_seconds: float
    duration_seconds: float
    accuracy: float | None
    loss: float | None
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
    federated_clients: int = 0
    federated_accuracy: float | None = None
    federated_accuracy_p10: float | None = None
    federated_accuracy_p90: float | None = None
    federated_loss: float | None = None
    federated_loss_p10: float | None = None
    federated_loss_p90: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(RoundRow))
FEDERATED_COLUMNS = tuple(name for name in COLUMNS if name.startswith("federated_"))


@dataclass(frozen=True, slots=True)
class Quality:
    """A model on held-out samples."""

    accuracy: float | None
    loss: float


@dataclass(frozen=True, slots=True)
class Point:
    """A measured model of a simulation: after which round, 0 before the first, and at how many virtual seconds."""

    round: int
    seconds: float
    quality: Quality


def curve_of(first: Quality, rows: Iterable[RoundRow]) -> tuple[Point, ...]:
    """Return the models that were measured on held-out samples: the first, and those of the rows that tell of one."""
    measured = [
        Point(row.round, row.ended_seconds, Quality(row.accuracy, row.loss)) for row in rows if row.loss is not None
    ]
    return (Point(0, 0.0, first), *measured)


def with_quality(row: RoundRow, quality: Quality) -> RoundRow:
    """Return a row with what was measured after its round."""
    accuracy = None if quality.accuracy is None else round(quality.accuracy, 6)
    return replace(row, accuracy=accuracy, loss=round(quality.loss, 6))


def row_of(
    round_: Round,
    tally: Tally,
    *,
    number: int,
    version: int,
    num_updates: int,
    num_contributors: int,
    began_at: float,
) -> RoundRow:
    """Return the row of an ended round, not measured yet; `began_at` is the start of the simulation, Unix seconds."""
    ended, started = round_.closed_at or began_at, max(began_at, round_.opened_at)
    return RoundRow(
        round=number,
        state="closed" if round_.state is RoundState.CLOSED else "abandoned",
        version=version,
        ended_seconds=round(ended - began_at, 3),
        duration_seconds=round(ended - started, 3),
        accuracy=None,
        loss=None,
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


def with_evaluations(rows: Iterable[RoundRow], evaluations: Iterable[Evaluation]) -> tuple[RoundRow, ...]:
    """Return the rows with what clients measured of the versions that their rounds made."""
    by_version: dict[int, list[Evaluation]] = {}
    for evaluation in evaluations:
        by_version.setdefault(evaluation.version, []).append(evaluation)
    return tuple(
        _measured(row, by_version[row.version]) if row.state == "closed" and row.version in by_version else row
        for row in rows
    )


def _measured(row: RoundRow, evaluations: list[Evaluation]) -> RoundRow:
    quality = quality_of(row.version, evaluations)
    losses = _spread([one.loss for one in evaluations])
    accuracies: tuple[float | None, float | None] = (None, None)
    if quality.accuracy is not None:
        accuracies = _spread([one.accuracy for one in evaluations if one.accuracy is not None])
    return replace(
        row,
        federated_clients=quality.num_clients,
        federated_accuracy=None if quality.accuracy is None else round(quality.accuracy, 6),
        federated_accuracy_p10=accuracies[0],
        federated_accuracy_p90=accuracies[1],
        federated_loss=round(quality.loss, 6),
        federated_loss_p10=losses[0],
        federated_loss_p90=losses[1],
    )


def _spread(values: list[float]) -> tuple[float | None, float | None]:
    low, high = np.quantile(values, [0.1, 0.9])
    return round(float(low), 6), round(float(high), 6)
