"""The picture of a demonstration: accuracy and loss over the rounds, and who holds which digits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fed_compute.cli.demo.plan import DIGITS, DemoPlan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Holdings = npt.NDArray[np.int64]
"""How many samples of each digit each client holds, shape (clients, digits)."""

_GREEN, _BLUE, _GREY, _RED = "#1f8a4c", "#2b6cb0", "#8895a3", "#d64545"
_MOST_NUMBERED_CLIENTS = 12


def count_holdings(plan: DemoPlan) -> Holdings:
    """Count which digits each client holds, by loading its part as it does itself."""
    from fed_compute.client.datasets import load_dataset  # needs an optional part

    return np.stack([np.bincount(load_dataset(plan.data_of(name)).y, minlength=DIGITS) for name in plan.names])


def draw_curves(summary: Mapping[str, Any], holdings: Holdings, path: Path) -> None:
    """Draw a summary's rounds into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # an optional part, and slow to load
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.6, 1))
    top = figure.add_subplot(grid[0, 0])
    bottom = figure.add_subplot(grid[1, 0], sharex=top)
    _draw_accuracy(top, summary["by_round"], final=summary["accuracy"])
    _draw_loss(bottom, summary["by_round"])
    _draw_holdings(figure.add_subplot(grid[:, 1]), holdings, [client["name"] for client in summary["by_client"]])
    figure.suptitle(_title(summary), fontsize=13, fontweight="bold")
    figure.savefig(path, format="png")


def _title(summary: Mapping[str, Any]) -> str:
    clients, rounds, deaths = summary["clients"], summary["rounds_closed"], summary["deaths"]
    killed = f", killed {deaths} time{'s' * (deaths != 1)}" if deaths else ""
    return (
        f"{summary['accuracy']:.1%} of unseen digits right after {rounds} round{'s' * (rounds != 1)} "
        f"on {clients} client{'s' * (clients != 1)}{killed}"
    )


def _draw_accuracy(axes: "Axes", rounds: Sequence[Mapping[str, Any]], *, final: float) -> None:
    numbers = [round_["round"] for round_ in rounds]
    axes.plot(numbers, [_value(round_["accuracy"]) for round_ in rounds], color=_GREEN, marker="o", markersize=4)
    axes.annotate(
        f"{final:.3f}",
        (numbers[-1], final),
        textcoords="offset points",
        xytext=(0, -16),
        ha="right",
        color=_GREEN,
        fontweight="bold",
    )
    axes.set_ylim(0, 1.03)
    axes.set_title("accuracy on the clients' held-out samples", loc="left", fontsize=10)
    _draw_deaths(axes, rounds)
    _tidy(axes)
    axes.tick_params(labelbottom=False)


def _draw_deaths(axes: "Axes", rounds: Sequence[Mapping[str, Any]]) -> None:
    """Mark the rounds in which clients were killed at the foot of the axes."""
    killed = [(round_["round"], round_["deaths"]) for round_ in rounds if round_["deaths"]]
    if not killed:
        return
    numbers, deaths = zip(*killed, strict=True)
    axes.scatter(numbers, [0.06] * len(numbers), s=30, marker="x", color=_RED, label="clients killed in this round")
    for number, count in zip(numbers, deaths, strict=True):
        axes.annotate(str(count), (number, 0.06), textcoords="offset points", xytext=(0, 5), ha="center", fontsize=8,
                      color=_RED)  # fmt: skip
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.14), frameon=False, fontsize=9)


def _draw_loss(axes: "Axes", rounds: Sequence[Mapping[str, Any]]) -> None:
    numbers = [round_["round"] for round_ in rounds]
    axes.plot(numbers, [_value(round_["train_loss"]) for round_ in rounds], color=_GREY, marker="o", markersize=3,
              label="while training, on each client's own part")  # fmt: skip
    axes.plot(numbers, [_value(round_["loss"]) for round_ in rounds], color=_BLUE, marker="o", markersize=4,
              label="the averaged model, on held-out samples")  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_title("loss (cross entropy)", loc="left", fontsize=10)
    axes.set_xlabel("round")
    axes.legend(loc="upper right", frameon=False, fontsize=9)
    _tidy(axes)
    axes.locator_params(axis="x", integer=True)


def _draw_holdings(axes: "Axes", holdings: Holdings, names: Sequence[str]) -> None:
    axes.imshow(holdings, cmap="Greens", aspect="auto", vmin=0)
    if len(names) <= _MOST_NUMBERED_CLIENTS:
        darkest = int(holdings.max())
        for (row, digit), count in np.ndenumerate(holdings):
            colour = "white" if count > 0.6 * darkest else _GREY if count == 0 else "black"
            axes.text(digit, row, str(count), ha="center", va="center", fontsize=8, color=colour)
        axes.set_yticks(range(len(names)), names)
    else:
        axes.set_ylabel("client")
    axes.set_xticks(range(holdings.shape[1]))
    axes.set_xlabel("digit")
    axes.tick_params(length=0)
    axes.set_title("who holds how many samples of which digit", loc="left", fontsize=10)
    for side in axes.spines.values():
        side.set_visible(False)


def _tidy(axes: "Axes") -> None:
    axes.grid(axis="y", color="#e3e8ee")
    axes.set_axisbelow(True)
    axes.spines["top"].set_visible(False)
    axes.spines["right"].set_visible(False)


def _value(figure: float | None) -> float:
    """Return a figure, or NaN, which leaves a gap in a line."""
    return float("nan") if figure is None else figure
