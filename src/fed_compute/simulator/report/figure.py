"""Accuracy and loss with matplotlib, for notebooks and papers, and the split as a picture file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fed_compute.errors import ExtraMissing
from fed_compute.simulator.samples import Arrays, load_samples
from fed_compute.simulator.splits import Holdings, Split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fed_compute.simulator.report.report import Report

BLUE, RED, GREY, GRID = "#0b6fb8", "#d1495b", "#5c6b78", "#e4e4e4"
MOST_CLIENTS = 60
CLASS_COLOURS = (
    "#0b6fb8", "#d1495b", "#e8a33d", "#8d5fb0", "#2a9d74", "#9aa7b4", "#46a6c9", "#b5651d", "#5b7f2b", "#e07aa6",
    "#3b4d8f", "#7d8a2e",
)  # fmt: skip
"""The colours of the page, in its order."""


def draw_figure(report: "Report") -> "Figure":
    """Return the quality over rounds (left) and over virtual minutes (right), held out and on clients.

    Raises:
        ExtraMissing: if matplotlib is not installed.
    """
    figure = blank_figure((9.6, 3.6), what="the figure of a simulation")
    from matplotlib.ticker import PercentFormatter  # an extra, which is there by now

    rows = report.rounds
    has_classes = report.accuracy is not None
    curve = report.curve
    ys = [point.quality.accuracy if has_classes else point.quality.loss for point in curve]
    axes = figure.subplots(1, 2, sharey=True)
    measured = [place for place, row in enumerate(rows) if row.federated_clients]
    colour, name = (BLUE, "accuracy") if has_classes else (RED, "loss")
    for axis, ends, xs, label in (
        (axes[0], [point.round for point in curve], [row.round for row in rows], "round"),
        (
            axes[1],
            [point.seconds / 60 for point in curve],
            [row.ended_seconds / 60 for row in rows],
            "virtual time, minutes",
        ),
    ):
        axis.plot(ends, ys, color=colour, linewidth=1.8, label="on held-out samples")
        if measured:
            at = [xs[place] for place in measured]
            low, mean, high = (
                [getattr(rows[place], f"federated_{name}{end}") for place in measured] for end in ("_p10", "", "_p90")
            )
            axis.plot(at, mean, color=GREY, linewidth=1.4, label="on clients, weighted by samples")
            axis.fill_between(at, low, high, color=GREY, alpha=0.2, linewidth=0, label="80 % of clients")
        axis.set_xlabel(label)
        plain(axis)
    axes[0].set_ylabel(name)
    axes[0].locator_params(axis="x", integer=True)
    if has_classes:
        axes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[0].legend(frameon=False, fontsize=8)
    title = f"{report.setup.job.name}: {report.setup.num_clients:,} clients, fleet {report.setup.fleet.name}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, weight="bold")
    figure.tight_layout()
    return figure


def draw_split(
    data: str | Arrays, path: Path, *, clients: int, split: str, seed: int, samples_per_client: int | None = None
) -> None:
    """Write a PNG: how many samples of each class the first clients would have, as `simulate` shares data out.

    Raises:
        ExtraMissing: if matplotlib is not installed.
        SimulationImpossible, DatasetInvalid, DatasetMissing: as `simulate`.
    """
    samples = load_samples(data)
    holdings = Holdings(
        samples.training,
        clients,
        Split.parse(split),
        seed=seed,
        users=samples.users,
        samples_per_client=samples_per_client,
    )
    figure = split_figure(holdings, title=f"{samples.training.name}, split {split}: {clients:,} clients")
    figure.savefig(path, dpi=150, metadata={"Software": None})


def split_figure(holdings: Holdings, *, title: str) -> "Figure":
    """Return how many samples of each class the first clients have, a bar for each.

    Raises:
        ExtraMissing: if matplotlib is not installed.
    """
    figure = blank_figure((9.6, 4.2), what="the picture of a split")
    axis = figure.subplots()
    classes, counts = holdings.table(MOST_CLIENTS)
    clients, floor = range(1, len(counts) + 1), counts[:, 0] * 0
    for place, label in enumerate(classes):
        colour = CLASS_COLOURS[place % len(CLASS_COLOURS)]
        axis.bar(clients, counts[:, place], bottom=floor, label=str(label), width=0.86, color=colour)
        floor = floor + counts[:, place]
    axis.set(xlabel="client", ylabel="samples", xlim=(0.3, len(counts) + 0.7))
    axis.set_title(title, loc="left", fontsize=12, weight="bold")
    axis.locator_params(axis="x", integer=True)
    if len(classes) > 1:
        axis.legend(title="class", fontsize=9, ncols=2, frameon=False, bbox_to_anchor=(1.01, 1), loc="upper left")
    plain(axis)
    axis.grid(visible=False, axis="x")
    figure.tight_layout()
    return figure


def blank_figure(size: tuple[float, float], *, what: str) -> "Figure":
    """Return an empty white figure of a size in inches; `what` is to be drawn.

    Raises:
        ExtraMissing: if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and an extra
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ExtraMissing(what=what, extra="plots") from error
    figure = Figure(figsize=size, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def plain(axis: Any) -> None:
    """Leave of an axis its numbers and a faint grid."""
    axis.tick_params(length=0)
    axis.grid(color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    for side in axis.spines.values():
        side.set_visible(False)
