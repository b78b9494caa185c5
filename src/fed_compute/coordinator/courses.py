"""The course of a job for a chart: as many points as a screen can show, however many rounds there were."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fed_compute.storage.sql.curves import RoundPoint

MOST_POINTS = 240
"""A chart is some hundred pixels wide."""


@dataclass(frozen=True, slots=True)
class CoursePoint:
    """Rounds in a row up to round `number`: means over evaluations, samples and rounds, None if there are none."""

    number: int
    accuracy: float | None
    loss: float | None
    train_loss: float | None
    num_updates: float


def thinned(points: Sequence[RoundPoint], *, most: int = MOST_POINTS) -> list[CoursePoint]:
    """Return at most `most` points that stand for all rounds, in order; each stands for as many rounds, but the last.

    Means are taken, nothing is left out: a round that was measured seldom would else be missed. Linear in the rounds.
    """
    width = max(1, -(-len(points) // most))
    return [_together(points[start : start + width]) for start in range(0, len(points), width)]


def _together(points: Sequence[RoundPoint]) -> CoursePoint:
    return CoursePoint(
        number=points[-1].number,
        accuracy=_mean(points, lambda point: point.accuracy, lambda point: point.num_evaluations),
        loss=_mean(points, lambda point: point.loss, lambda point: point.num_evaluations),
        train_loss=_mean(points, lambda point: point.train_loss, lambda point: point.num_samples),
        num_updates=sum(point.num_updates for point in points) / len(points),
    )


def _mean(
    points: Sequence[RoundPoint], value: Callable[[RoundPoint], float | None], weight: Callable[[RoundPoint], int]
) -> float | None:
    known = [(found, weight(point)) for point in points if (found := value(point)) is not None]
    total = sum(count for _, count in known)
    return sum(found * count for found, count in known) / total if total else None
