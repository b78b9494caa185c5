"""The comparison with matplotlib: lines over rounds and over virtual time, and a map of two keys."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fed_compute.errors import SweepInvalid
from fed_compute.simulator.report.figure import blank_figure, plain
from fed_compute.simulator.sweeps.design import label
from fed_compute.simulator.sweeps.grid import Grid
from fed_compute.simulator.sweeps.outcome import Curve, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, FAINT = "#222222", "#6b6b6b"
COLOURS = ("#0b6fb8", "#d1495b", "#e8a33d", "#2a9d74", "#8d5fb0", "#46a6c9", "#b5651d", "#5b7f2b", "#e07aa6", "#3b4d8f")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
_BAD_TO_GOOD = ["#7a2e05", "#dd7b30", "#f4d19a", "#e6f1fa", "#8fc0e4"]
_TIMES = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0))
_LONGEST_LEGEND = 24
_PICTURE = "the picture of a sweep"


def draw_lines(rows: Sequence[Row], grid: Grid, *, title: str) -> "Figure":
    """Return the held-out quality over rounds (left) and virtual time (right), a line for each row.

    Where seeds differ, the line is their mean, in a band of one sample standard deviation. Two keys are told apart by
    colour and by dashes. The legend has the best on top.

    Raises:
        ExtraMissing: if matplotlib is not installed.
    """
    has_classes = any(row.measure("accuracy") is not None for row in rows)
    drawn = [(row, curve) for row in rows if (curve := Curve.of(row, has_classes=has_classes)) is not None]
    figure = blank_figure((11.5, max(4.0, 0.8 + 0.2 * min(len(drawn), _LONGEST_LEGEND))), what=_PICTURE)
    axes = figure.subplots(1, 2, sharey=True)
    unit, length = _time_unit(max((curve.seconds[-1] for _, curve in drawn), default=0.0))
    for row, curve in drawn:
        colour, dashes = _style(row, rows, grid)
        style = {"color": colour, "linestyle": dashes, "linewidth": 1.8}
        times = [value / length for value in curve.seconds]
        for axis, xs in ((axes[0], curve.rounds), (axes[1], times)):
            axis.plot(xs, curve.means, label=_legend_text(row, curve, has_classes=has_classes), **style)
            if curve.deviations is not None:
                pairs = list(zip(curve.means, curve.deviations, strict=True))
                low, high = [mean - one for mean, one in pairs], [mean + one for mean, one in pairs]
                axis.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
    _dress(figure, axes, has_classes=has_classes, unit=unit)
    key = f"   {grid.varied[0]}" if len(grid.varied) == 1 else ""
    _write_legend(figure, axes[0], [curve.means[-1] for _, curve in drawn], key, best_is_high=has_classes)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, weight="bold", color=INK)
    return figure


def draw_map(rows: Sequence[Row], grid: Grid, *, title: str) -> "Figure":
    """Return the last models' quality for two keys: the first downwards, the second across.

    Raises:
        SweepInvalid: if not exactly two keys, besides the seed, have several values.
        ExtraMissing: if matplotlib is not installed.
    """
    if len(grid.varied) != 2:
        raise SweepInvalid(f"a map has two keys with several values, found {len(grid.varied)}; use plot()")
    down, across = (grid.axes[key] for key in grid.varied)
    figure = blank_figure((2.4 + 0.95 * len(across), 1.5 + 0.42 * len(down)), what=_PICTURE)
    from matplotlib.colors import LinearSegmentedColormap  # slow to import, and an extra

    has_classes = any(row.measure("accuracy") is not None for row in rows)
    values = np.full((len(down), len(across)), np.nan)
    for row in rows:
        if (quality := row.measure("accuracy" if has_classes else "loss")) is not None:
            place = tuple(grid.axes[key].index(row.values[key]) for key in grid.varied)
            values[place] = quality.mean
    colours = LinearSegmentedColormap.from_list("quality", _BAD_TO_GOOD if has_classes else _BAD_TO_GOOD[::-1])
    axis = figure.subplots()
    lowest, highest = (0.0, 1.0) if has_classes else (None, None)
    mesh = axis.pcolormesh(values, cmap=colours, edgecolors="white", linewidth=2, vmin=lowest, vmax=highest)
    for (row_place, column), value in np.ndenumerate(values):
        red, green, blue, opacity = mesh.to_rgba(value)
        ink = "white" if opacity and 0.3 * red + 0.6 * green + 0.1 * blue < 0.5 else INK
        text = "failed" if np.isnan(value) else f"{100 * value:.1f}" if has_classes else f"{value:.3g}"
        axis.text(column + 0.5, row_place + 0.5, text, ha="center", va="center_baseline", color=ink, fontsize=9.5)
    axis.set(xticks=np.arange(len(across)) + 0.5, yticks=np.arange(len(down)) + 0.5)
    axis.set_xticklabels([label(value) for value in across], fontsize=9.5)
    axis.set_yticklabels([label(value) for value in down], fontsize=9.5)
    axis.set(xlabel=grid.varied[1], ylabel=grid.varied[0])
    axis.invert_yaxis()
    axis.xaxis.set_ticks_position("top")
    axis.xaxis.set_label_position("top")
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    _write_title(
        figure, title, "accuracy of the last model on held-out samples, %" if has_classes else "loss of the last model"
    )
    return figure


def _style(row: Row, rows: Sequence[Row], grid: Grid) -> tuple[Any, Any]:
    """Return colour and dashes: one for each of two keys if they suffice, else a colour for each row."""
    sizes = [len(grid.axes[key]) for key in grid.varied]
    places = [grid.axes[key].index(row.values[key]) for key in grid.varied]
    if len(sizes) == 2 and min(sizes) <= len(DASHES) and max(sizes) <= len(COLOURS):
        by_colour, by_dashes = places if sizes[0] >= sizes[1] else places[::-1]
        return COLOURS[by_colour], DASHES[by_dashes]
    place = list(rows).index(row)
    if len(rows) <= len(COLOURS):
        return COLOURS[place], "-"
    from matplotlib import colormaps

    return colormaps["turbo"](0.05 + 0.9 * place / (len(rows) - 1)), DASHES[place % len(DASHES)]


def _legend_text(row: Row, curve: Curve, *, has_classes: bool) -> str:
    last = f"{100 * curve.means[-1]:.1f} %" if has_classes else f"{curve.means[-1]:.3g}"
    if curve.deviations is not None:
        last = last.replace(" %", "") + (
            f" ± {100 * curve.deviations[-1]:.1f} %" if has_classes else f" ± {curve.deviations[-1]:.2g}"
        )
    return f"{last}   {row.legend}"


def _dress(figure: "Figure", axes: Any, *, has_classes: bool, unit: str) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    for axis, text in ((axes[0], "round"), (axes[1], f"virtual time, {unit}")):
        axis.set_xlabel(text, color=INK)
        axis.margins(x=0.02)
        plain(axis)
        axis.tick_params(length=0, colors=FAINT)
    axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel(f"{'accuracy' if has_classes else 'loss'} on held-out samples", color=INK)
    if has_classes:
        axes[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.set_layout_engine("constrained", w_pad=0.08)


def _write_legend(figure: "Figure", axis: Any, lasts: Sequence[float], key: str, *, best_is_high: bool) -> None:
    """Write the lines' names beside the plots, in the order in which the lines end."""
    if len(lasts) < 2:
        return
    handles, names = axis.get_legend_handles_labels()
    order = sorted(range(len(lasts)), key=lambda place: lasts[place], reverse=best_is_high)[:_LONGEST_LEGEND]
    figure.legend(
        [handles[place] for place in order],
        [names[place] for place in order],
        loc="outside right upper",
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=2.6,
        title=f"last round{key}" + ("" if len(order) == len(lasts) else f", best {len(order)} of {len(lasts)}"),
        alignment="left",
    )


def _write_title(figure: "Figure", title: str, subtitle: str) -> None:
    """Write two lines above everything else, for which the layout leaves room."""
    height = figure.get_size_inches()[1]
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - 0.6 / height))
    figure.text(0.01, 1 - 0.1 / height, title, fontsize=12, weight="bold", color=INK, va="top")
    figure.text(0.01, 1 - 0.34 / height, subtitle, fontsize=9, color=FAINT, va="top")


def _time_unit(highest_seconds: float) -> tuple[str, float]:
    return next((unit for unit in _TIMES if highest_seconds >= 2 * unit[1]), ("seconds", 1.0))
