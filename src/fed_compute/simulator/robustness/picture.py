"""The table as a heat map."""

from pathlib import Path
from typing import Any

import numpy as np

from fed_compute.errors import ExtraMissing
from fed_compute.simulator.robustness.table import SPLIT_LABELS, Table

PALETTE = "cividis"
"""Reads the same to people who cannot tell red from green, and in grey."""
DARK_BELOW = 55.0
"""Cells of less than this many percent are dark and get light numbers."""


def draw(table: Table, path: Path, *, caption: str) -> None:
    """Write a PNG: a panel for each kind of data, attacks down, defences across, accuracy in percent in each cell.

    Raises:
        ExtraMissing: if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and an extra
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ExtraMissing(what="the picture of the table", extra="plots") from error
    num_rows, num_columns = len(table.attacks) + 1, len(table.defences)
    height = 1.2 + len(table.splits) * (0.30 * num_rows + 1.05)
    figure = Figure(figsize=(1.9 + 0.72 * num_columns, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(len(table.splits), 1))
    for axis, split in zip(axes, table.splits, strict=True):
        image = _panel(axis, table, split)
    bar = figure.colorbar(image, ax=list(axes), location="bottom", shrink=0.5, aspect=40, pad=0.015)
    bar.set_label("accuracy on held-out digits, percent", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(caption, fontsize=11)
    figure.savefig(path, metadata={"Software": None})


def _panel(axis: Any, table: Table, split: Any) -> Any:
    rows = table.rows(split)
    values = np.array([values for _, values in rows])
    image = axis.imshow(values, cmap=PALETTE, vmin=0.0, vmax=100.0, aspect="auto")
    axis.set_title(SPLIT_LABELS[split], fontsize=10, loc="left")
    axis.set_xticks(range(len(table.defences)), [defence.replace("_", "\n") for defence in table.defences], fontsize=9)
    axis.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=9)
    axis.xaxis.tick_bottom()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xticks(np.arange(len(table.defences) - 1) + 0.5, minor=True)
    axis.set_yticks(np.arange(len(rows) - 1) + 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=1.0)
    axis.tick_params(which="minor", length=0)
    axis.axhline(len(rows) - 1.5, color="white", linewidth=4.0)
    for (row, column), value in np.ndenumerate(values):
        weight = "bold" if row == len(rows) - 1 else "normal"
        colour = "white" if value < DARK_BELOW else "black"
        axis.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=8.5, color=colour, weight=weight)
    return image
