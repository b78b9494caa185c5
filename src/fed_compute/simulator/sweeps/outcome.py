"""What came of each run, and the rows of a comparison: runs that differ in nothing but their seed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fed_compute.simulator.history import Quality, RoundRow, curve_of
from fed_compute.simulator.sweeps.design import Run, label
from fed_compute.simulator.sweeps.events import Ended, Event, Failed
from fed_compute.simulator.sweeps.grid import Grid

MEASURES = (
    "accuracy",
    "loss",
    "best",
    "best_round",
    "rounds",
    "virtual_seconds",
    "wall_seconds",
    "bytes_up",
    "bytes_down",
    "dropped",
    "refused",
)
"""`best` is the highest accuracy of any round, the lowest loss where there are no classes; `dropped` counts leases that
vanished or came late, `refused` updates that the coordinator refused."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run. `error` says why there is nothing."""

    run: Run
    first: Quality | None
    rounds: tuple[RoundRow, ...]
    summary: Mapping[str, Any] | None
    wall_seconds: float
    error: str | None = None

    def measures(self) -> dict[str, float | None]:
        """Return the numbers of `MEASURES`; none of a run that failed."""
        if self.summary is None or self.first is None:
            return {}
        best = max(curve_of(self.first, self.rounds), key=lambda point: _goodness(point.quality))
        by_accuracy = self.summary["accuracy"] is not None
        return {
            **{name: self.summary[name] for name in ("accuracy", "loss", "virtual_seconds", "bytes_up", "bytes_down")},
            "best": best.quality.accuracy if by_accuracy else best.quality.loss,
            "best_round": best.round,
            "rounds": self.summary["rounds_closed"],
            "wall_seconds": round(self.wall_seconds, 3),
            "dropped": self.summary["vanished"] + self.summary["late"],
            "refused": sum(self.summary["refused"].values()),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the run as plain data, one level deep."""
        measures = self.measures()
        return {
            "run": self.run.number,
            **{key: label(value) for key, value in self.run.values.items()},
            **{name: measures.get(name) for name in MEASURES},
            "model_digest": None if self.summary is None else self.summary["model_digest"],
            "report": f"runs/{self.run.folder}",
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Spread:
    """The mean of some runs, and their sample standard deviation if there are several."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return it of at least one value."""
        if len(values) == 1:
            return cls(values[0], None)
        mean = math.fsum(values) / len(values)
        return cls(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a comparison: `values` of the keys that differ, and the outcomes of all seeds."""

    values: Mapping[str, Any]
    outcomes: tuple[Outcome, ...]

    @property
    def done(self) -> tuple[Outcome, ...]:
        """The outcomes of runs that came to an end."""
        return tuple(outcome for outcome in self.outcomes if outcome.summary is not None)

    @property
    def errors(self) -> tuple[str, ...]:
        """Why runs failed, each reason once."""
        return tuple(dict.fromkeys(outcome.error for outcome in self.outcomes if outcome.error is not None))

    @property
    def name(self) -> str:
        """The row in words: `lr 0.1, rule robust`."""
        return ", ".join(f"{key} {label(value)}" for key, value in self.values.items()) or "all"

    @property
    def legend(self) -> str:
        """The row beside others: of a single key the value is enough."""
        return label(next(iter(self.values.values()))) if len(self.values) == 1 else self.name

    def measure(self, name: str) -> Spread | None:
        """Return one of `MEASURES` over the runs that came to an end; None if it has no value."""
        found = [outcome.measures()[name] for outcome in self.done]
        values = [value for value in found if value is not None]
        return Spread.of(values) if values else None

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain data, one level deep."""
        spreads = {name: self.measure(name) for name in MEASURES}
        means = {name: None if spread is None else spread.mean for name, spread in spreads.items()}
        deviations = {
            f"{name}_deviation": spread.deviation
            for name, spread in spreads.items()
            if spread is not None and spread.deviation is not None
        }
        values = {key: label(value) for key, value in self.values.items()}
        return {**values, "runs": len(self.done), **means, **deviations, "errors": list(self.errors)}


@dataclass(frozen=True, slots=True)
class Curve:
    """How a row's models got better: `means` over its seeds, after `rounds`, from 0, and by virtual seconds.

    It has the rounds after which all of its runs were measured, and ends with the shortest of them. `deviations` are
    sample standard deviations, None with a single run.
    """

    rounds: tuple[int, ...]
    seconds: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...] | None

    @classmethod
    def of(cls, row: Row, *, has_classes: bool) -> "Curve | None":
        """Return the accuracy of a row, or where there are no classes the loss; None if no run came to an end."""
        runs = [
            {point.round: point for point in curve_of(outcome.first, outcome.rounds)}
            for outcome in row.done
            if outcome.first is not None
        ]
        if not runs:
            return None
        rounds = sorted(set.intersection(*map(set, runs)))
        qualities = [Spread.of([_shown(run[number].quality, has_classes) for run in runs]) for number in rounds]
        seconds = [math.fsum(run[number].seconds for run in runs) / len(runs) for number in rounds]
        deviations = tuple(quality.deviation or 0.0 for quality in qualities) if len(runs) > 1 else None
        return cls(tuple(rounds), tuple(seconds), tuple(quality.mean for quality in qualities), deviations)


class Notes:
    """Takes down what a sweep's runs tell at their end."""

    def __init__(self) -> None:
        self._ends: dict[int, Ended | Failed] = {}

    def take(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, Ended | Failed):
            self._ends[event.run] = event

    def outcomes(self, runs: Sequence[Run]) -> tuple[Outcome, ...]:
        """Return what came of those runs that came to an end, one way or another."""
        found = []
        for run in runs:
            match self._ends.get(run.number):
                case Ended(_, first, rounds, summary, wall_seconds):
                    found.append(Outcome(run, first, rounds, summary, wall_seconds))
                case Failed(_, message):
                    found.append(Outcome(run, None, (), None, 0.0, error=message))
        return tuple(found)


def rows_of(outcomes: Iterable[Outcome], grid: Grid) -> tuple[Row, ...]:
    """Put outcomes that differ only in their seed into one row each, in the order of the grid."""
    groups: dict[tuple[int, ...], list[Outcome]] = {}
    for outcome in outcomes:
        place = tuple(grid.axes[key].index(outcome.run.values[key]) for key in grid.varied)
        groups.setdefault(place, []).append(outcome)
    return tuple(Row({key: group[0].run.values[key] for key in grid.varied}, tuple(group)) for group in groups.values())


def best_of(rows: Sequence[Row]) -> Row | None:
    """Return the row whose last models are the best on held-out samples; None if no run came to an end."""
    done = [row for row in rows if row.done]
    return max(done, key=_last_goodness) if done else None


def _last_goodness(row: Row) -> float:
    accuracy, loss = row.measure("accuracy"), row.measure("loss")
    return _or_worst(accuracy.mean if accuracy is not None else -loss.mean if loss is not None else math.nan)


def _shown(quality: Quality, has_classes: bool) -> float:
    return (quality.accuracy or 0.0) if has_classes else quality.loss


def _goodness(quality: Quality) -> float:
    return _or_worst(-quality.loss if quality.accuracy is None else quality.accuracy)


def _or_worst(goodness: float) -> float:
    """Return how good a model is; one whose loss is no number is the worst."""
    return -math.inf if math.isnan(goodness) else goodness
