"""The picture of a contest is written as a PNG."""

from pathlib import Path

from fed_compute.simulator.fleet import Trial
from fed_compute.simulator.fleet.contest import ASYNC, SYNC, Outcome
from fed_compute.simulator.fleet.picture import draw
from fed_compute.simulator.fleet.trial import Point


def a_trial(seconds: float, *, reached: bool = True) -> Trial:
    points = tuple(Point(seconds * part / 4, 0.25 * part) for part in range(5))
    return Trial(
        points,
        seconds if reached else None,
        updates=4,
        mean_staleness=0.0,
        late=0,
        vanished=0,
        contributors=4,
        breaches=0,
    )


def test_a_contest_is_drawn_although_somebody_never_arrived(tmp_path: Path) -> None:
    outcome = Outcome({ASYNC: [a_trial(100.0)], SYNC: [a_trial(500.0, reached=False)]}, longest_seconds=500.0)
    draw(outcome, tmp_path / "contest.png", target=0.9, subtitle="two runs")
    assert (tmp_path / "contest.png").read_bytes().startswith(b"\x89PNG")
    assert outcome.times_faster(SYNC) == 5
