"""Accuracy against virtual time, a line for each seed."""

from pathlib import Path
from typing import Any

from fed_compute.errors import ExtraMissing
from fed_compute.simulator.fleet.contest import ASYNC, SYNC, SYNC_ALL, Outcome
from fed_compute.simulator.fleet.trial import SMOOTHED_OVER, Trial

INK, FAINT, GRID = "#222222", "#6b6b6b", "#e4e4e4"
STYLES = {
    ASYNC: ("#0072b2", "asynchronous"),
    SYNC: ("#d55e00", "synchronous, over-selecting by 1.3"),
    SYNC_ALL: ("#7f7f7f", "synchronous, waiting for all"),
}
"""Colours that people with any kind of colour blindness tell apart."""


def draw(outcome: Outcome, path: Path, *, target: float, subtitle: str) -> None:
    """Write a PNG on white. `target` is an accuracy from 0 to 1.

    Raises:
        ExtraMissing: if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and an extra
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ExtraMissing(what="the picture of the fleet", extra="plots") from error
    figure = Figure(figsize=(8.6, 4.8), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    axis = figure.add_axes((0.075, 0.12, 0.9, 0.7))
    end = max(point.seconds for found in outcome.trials.values() for one in found for point in one.points) / 60
    axis.set(xlim=(0, end * 1.02), ylim=(0, 100))
    axis.axhline(100 * target, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axis.text(end / 2, 100 * target + 2, f"target {target:.0%}", fontsize=9, color=INK, ha="center")
    for place, name in enumerate(outcome.trials):
        _draw_contender(axis, outcome, name, target=target, label_at=(end, 52 - 9 * place))
    axis.set_xlabel("virtual time, minutes", fontsize=9.5, color=INK)
    axis.set_ylabel("accuracy on held-out digits, percent", fontsize=9.5, color=INK)
    axis.tick_params(labelsize=9, colors=FAINT, length=0)
    axis.grid(color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    for side in axis.spines.values():
        side.set_visible(False)
    title = f"A fleet of unequal machines learns {outcome.times_faster(SYNC):.1f} times as fast in asynchronous rounds"
    figure.text(0.02, 0.945, title, fontsize=13, weight="bold", color=INK)
    figure.text(0.02, 0.885, subtitle, fontsize=9, color=FAINT)
    figure.savefig(path, metadata={"Software": None})


def _draw_contender(axis: Any, outcome: Outcome, name: str, *, target: float, label_at: tuple[float, float]) -> None:
    colour, label = STYLES[name]
    for one in outcome.trials[name]:
        axis.plot(*_line(one), color=colour, linewidth=1.6, alpha=0.85, solid_joinstyle="round")
        if one.reached_at is not None:
            axis.plot([one.reached_at / 60], [100 * target], "o", color=colour, markersize=5, zorder=3)
    text = f"{label}: {outcome.mean_seconds(name) / 60:.0f} min"
    if name != ASYNC:
        text += f", {outcome.times_faster(name):.1f} times as long"
    axis.text(*label_at, text, fontsize=10.5, color=colour, weight="bold", ha="right")


def _line(trial: Trial) -> tuple[list[float], list[float]]:
    """Return minutes and percent, each version's accuracy averaged with those of its neighbours."""
    half, accuracies = SMOOTHED_OVER // 2, [point.accuracy for point in trial.points]
    near = [accuracies[max(0, place - half) : place + half + 1] for place in range(len(accuracies))]
    return [point.seconds / 60 for point in trial.points], [100 * sum(some) / len(some) for some in near]
