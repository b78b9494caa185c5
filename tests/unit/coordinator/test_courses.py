"""Charts of long jobs: few points that leave nothing out."""

from dataclasses import replace

import pytest

from fed_compute.coordinator.courses import MOST_POINTS, thinned
from fed_compute.rounds.records import RoundState
from fed_compute.storage.sql.curves import RoundPoint

BARE = RoundPoint(
    round_id=1,
    number=1,
    state=RoundState.CLOSED,
    result_version=2,
    opened_at=0.0,
    started_at=0.0,
    closed_at=1.0,
    num_updates=3,
    num_samples=0,
    train_loss=None,
    num_evaluations=0,
    loss=None,
    accuracy=None,
)


def rounds(count: int) -> list[RoundPoint]:
    return [replace(BARE, number=number, train_loss=float(number), num_samples=1) for number in range(1, count + 1)]


@pytest.mark.parametrize("count", [0, 1, MOST_POINTS, MOST_POINTS + 1, 999, 1_000])
def test_however_long_a_job_its_chart_has_few_points_and_ends_with_its_newest_round(count: int) -> None:
    points = thinned(rounds(count))
    assert len(points) <= MOST_POINTS
    assert [point.number for point in points[-1:]] == ([count] if count else [])
    numbers = [point.number for point in points]
    assert numbers == sorted(set(numbers)), "a chart needs each place once"


def test_a_short_job_is_drawn_round_by_round() -> None:
    assert [point.train_loss for point in thinned(rounds(5))] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_a_round_that_was_measured_seldom_is_not_missed() -> None:
    points = rounds(1_000)
    points[3] = replace(points[3], accuracy=0.5, loss=2.0, num_evaluations=2)
    drawn = thinned(points)
    assert [point.accuracy for point in drawn if point.accuracy is not None] == [0.5]


def test_a_point_is_the_mean_of_its_rounds_weighted_by_what_was_measured() -> None:
    first = replace(BARE, number=1, train_loss=1.0, num_samples=30, accuracy=0.2, num_evaluations=1, num_updates=2)
    second = replace(BARE, number=2, train_loss=3.0, num_samples=10, accuracy=0.8, num_evaluations=3, num_updates=4)
    (point,) = thinned([first, second], most=1)
    assert (point.train_loss, point.num_updates, point.loss) == (1.5, 3.0, None)
    assert point.accuracy == pytest.approx(0.65)
