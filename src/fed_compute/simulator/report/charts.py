"""Plots as SVG text: lines and stacked bars with axes, and the values that the page's few lines of script show."""

import html
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, WIDE, HEIGHT = 560, 1120, 250
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 12, 38
_PLOT_HEIGHT = HEIGHT - TOP - BOTTOM
_TICKS = 5
_DOTS_UP_TO = 60

Write = Callable[[float], str]
"""How a number of an axis is written."""


@dataclass(frozen=True, slots=True)
class Series:
    """A named row of numbers, one for each x; `colour` is the number of a colour of the page, from 1."""

    name: str
    values: Sequence[float]
    colour: int


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis measures, how its numbers are written, and its range if that is not to follow from the numbers.

    `unit` gives the size of the unit in which numbers up to a given one are written, so that ticks are round in it.
    """

    label: str
    write: Write
    lowest: float | None = None
    highest: float | None = None
    unit: Callable[[float], float] = lambda highest: 1.0


def line_chart(xs: Sequence[float], series: Sequence[Series], *, x: Axis, y: Axis) -> str:
    """Return lines over xs, ascending, at least one. A line has no point where its value is NaN."""
    low_x, high_x = _range(xs, x)
    low_y, high_y = _range([value for one in series for value in one.values if not math.isnan(value)], y)
    left = [_scaled(value, low_x, high_x) * (WIDTH - LEFT - RIGHT) + LEFT for value in xs]
    parts = [_axes(x, y, (low_x, high_x), (low_y, high_y), width=WIDTH)]
    for one in series:
        there = [(a, value) for a, value in zip(left, one.values, strict=True) if not math.isnan(value)]
        places = [(a, TOP + (1 - _scaled(value, low_y, high_y)) * _PLOT_HEIGHT) for a, value in there]
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(f'<polyline class="line c{one.colour}" points="{points}"/>')
        if len(xs) <= _DOTS_UP_TO:
            parts += [f'<circle class="dot c{one.colour}" cx="{a:.1f}" cy="{b:.1f}" r="2.4"/>' for a, b in places]
    told = [[x.write(value) for value in xs], *_told(series, y)]
    return _svg(parts, left, told, [one.name for one in series], x, width=WIDTH)


def bar_chart(names: Sequence[str], series: Sequence[Series], *, x: Axis, y: Axis) -> str:
    """Return a bar for each name, the series on top of each other in it. Twice as wide as lines."""
    totals = [math.fsum(one.values[place] for one in series) for place in range(len(names))]
    low, high = _range(totals, Axis(y.label, y.write, lowest=0.0, highest=y.highest))
    step = (WIDE - LEFT - RIGHT) / len(names)
    width, middles = min(48.0, max(0.6, step * 0.82)), [LEFT + (place + 0.5) * step for place in range(len(names))]
    parts, floor = [_axes(x, y, None, (low, high), width=WIDE), *_names(names, middles)], [0.0] * len(names)
    for one in series:
        for place, value in enumerate(one.values):
            if value > 0:
                top = _scaled(floor[place] + value, low, high) * _PLOT_HEIGHT
                height = _scaled(value, 0.0, high - low) * _PLOT_HEIGHT
                parts.append(
                    f'<rect class="bar c{one.colour}" x="{middles[place] - width / 2:.1f}" '
                    f'y="{TOP + _PLOT_HEIGHT - top:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
                )
            floor[place] += value
    return _svg(parts, middles, [list(names), *_told(series, y)], [one.name for one in series], x, width=WIDE)


def legend(series: Sequence[Series]) -> str:
    """Return the names of several series with their colours; nothing for a single one."""
    if len(series) < 2:
        return ""
    words = (f'<span><i class="c{one.colour}"></i>{html.escape(one.name)}</span>' for one in series)
    return f'<p class="legend">{"".join(words)}</p>'


def ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers from `low` to `high`."""
    if high <= low:
        return [low]
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [place * step for place in range(first, math.floor(high / step + 1e-9) + 1)]


def _range(values: Sequence[float], axis: Axis) -> tuple[float, float]:
    low = min(values) if axis.lowest is None else axis.lowest
    high = max(values) if axis.highest is None else axis.highest
    return (low, high) if high > low else (low, low + 1.0)


def _scaled(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low)


def _axes(x: Axis, y: Axis, x_range: tuple[float, float] | None, y_range: tuple[float, float], *, width: int) -> str:
    parts, floor = [], TOP + _PLOT_HEIGHT
    for value in _ticks(y, y_range):
        top = TOP + (1 - _scaled(value, *y_range)) * _PLOT_HEIGHT
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{top:.1f}" y2="{top:.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 8}" y="{top + 3.5:.1f}">{html.escape(y.write(value))}</text>')
    if x_range is not None:
        for value in _ticks(x, x_range):
            left = LEFT + _scaled(value, *x_range) * (width - LEFT - RIGHT)
            parts.append(f'<text class="tick mid" x="{left:.1f}" y="{floor + 16}">{html.escape(x.write(value))}</text>')
    middle = LEFT + (width - LEFT - RIGHT) / 2
    parts.append(f'<text class="axis mid" x="{middle}" y="{HEIGHT - 5}">{html.escape(x.label)}</text>')
    return "".join(parts)


def _ticks(axis: Axis, over: tuple[float, float]) -> list[float]:
    unit = axis.unit(over[1])
    return [unit * value for value in ticks(over[0] / unit, over[1] / unit)]


def _names(names: Sequence[str], middles: Sequence[float]) -> list[str]:
    every = max(1, math.ceil(len(names) / 20))
    return [
        f'<text class="tick mid" x="{middle:.1f}" y="{TOP + _PLOT_HEIGHT + 16}">{html.escape(name)}</text>'
        for place, (name, middle) in enumerate(zip(names, middles, strict=True))
        if place % every == 0
    ]


def _told(series: Sequence[Series], y: Axis) -> list[list[str]]:
    return [["–" if math.isnan(value) else y.write(value) for value in one.values] for one in series]


def _svg(
    parts: Sequence[str],
    places: Sequence[float],
    rows: Sequence[Sequence[str]],
    names: Sequence[str],
    x: Axis,
    *,
    width: int,
) -> str:
    """Close the picture; what the pointer shows lies beside it as data."""
    shown = {"at": [round(place, 1) for place in places], "x": rows[0], "names": list(names), "y": rows[1:]}
    told = html.escape(json.dumps(shown, separators=(",", ":")), quote=True)
    return (
        f'<svg class="chart" viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{html.escape(x.label)}" '
        f'data-shown="{told}">{"".join(parts)}<line class="cursor" y1="{TOP}" y2="{TOP + _PLOT_HEIGHT}"/></svg>'
    )
