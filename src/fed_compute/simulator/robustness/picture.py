"""The table as a picture: a panel for each kind of data, a rule in each row, an attack in each column."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fed_compute.errors import ExtraMissing
from fed_compute.simulator.robustness.setting import Split
from fed_compute.simulator.robustness.table import ATTACK_LABELS, PAPER_ATTACKS, SPLIT_LABELS, Table

INK, FAINT, LIGHT = "#222222", "#6b6b6b", "#ffffff"
GAP = 0.3
"""Space between groups of columns, as a part of a column."""
CELL_WIDTH, CELL_HEIGHT, NAME_WIDTH, MARGIN, HEAD, PANEL_HEAD, LEGEND = 0.57, 0.27, 1.5, 0.15, 0.55, 0.75, 0.45
"""Inches."""


class Band(NamedTuple):
    """How accuracies from `at_least` percent up to the next band are shown."""

    at_least: float
    colour: str
    ink: str
    label: str


BANDS = (
    Band(95, "#e6f1fa", INK, "95 and more"),
    Band(90, "#cbe2f3", INK, "90 to 95"),
    Band(80, "#f4d19a", INK, "80 to 90"),
    Band(60, "#eaa95c", INK, "60 to 80"),
    Band(20, "#dd7b30", INK, "20 to 60"),
    Band(0, "#7a2e05", LIGHT, "below 20"),
)
"""Blue is good and orange is bad, and the worse the darker: told apart with any colour blindness, and in grey."""


class Column(NamedTuple):
    """One column of a panel: where it stands, what it is called, which attack it shows (None: the worst of all)."""

    left: float
    label: str
    attack: str | None


def draw(table: Table, path: Path, *, title: str, subtitle: str) -> None:
    """Write a PNG on white.

    Raises:
        ExtraMissing: if matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and an extra
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ExtraMissing(what="the picture of the table", extra="plots") from error
    columns, cells_height = _columns(table.attacks), CELL_HEIGHT * len(table.defences)
    cells_width = CELL_WIDTH * (columns[-1].left + 1)
    width = MARGIN + NAME_WIDTH + cells_width + MARGIN
    height = HEAD + (PANEL_HEAD + cells_height) * len(table.splits) + LEGEND
    figure = Figure(figsize=(width, height), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    _write(figure, MARGIN, height - 0.25, title, fontsize=13, weight="bold")
    _write(figure, MARGIN, height - 0.50, subtitle, fontsize=9, color=FAINT)
    for place, split in enumerate(table.splits, start=1):
        bottom = height - HEAD - (PANEL_HEAD + cells_height) * place
        _write(figure, MARGIN, bottom + cells_height + 0.5, SPLIT_LABELS[split], fontsize=10.5, weight="bold")
        left, sides = MARGIN + NAME_WIDTH, (width, height)
        axis = figure.add_axes(_fractions((left, bottom), sides) + _fractions((cells_width, cells_height), sides))
        _draw_cells(axis, table, split, columns)
    _draw_legend(figure)
    figure.savefig(path, metadata={"Software": None})


def _columns(attacks: Sequence[str]) -> list[Column]:
    """Return the attacks in groups: none, the published ones, those at weights and rewards; last the worst of all."""
    published = [attack for attack in attacks if attack in PAPER_ATTACKS]
    others = [attack for attack in attacks if attack not in PAPER_ATTACKS and attack != "none"]
    columns: list[Column] = []
    left = 0.0
    for group in (["none"] if "none" in attacks else [], published, others):
        for attack in group:
            columns.append(Column(left, ATTACK_LABELS[attack], attack))
            left += 1.0
        left += GAP if group else 0.0
    return [*columns, Column(left, "worst", None)]


def _draw_cells(axis: Any, table: Table, split: Split, columns: Sequence[Column]) -> None:
    axis.set(xlim=(0, columns[-1].left + 1), ylim=(len(table.defences), 0))
    axis.axis("off")
    for column in columns:
        label, weight = "\n".join(column.label.rsplit(" ", 1)), "bold" if column.attack is None else "normal"
        axis.text(column.left + 0.5, -0.25, label, fontsize=8.5, color=INK, ha="center", va="baseline", weight=weight)
    for row, defence in enumerate(table.defences):
        weight = "bold" if defence == "robust" else "normal"
        name = defence.replace("_", " ")
        axis.text(-0.15, row + 0.5, name, fontsize=9.5, color=INK, ha="right", va="center_baseline", weight=weight)
        for column in columns:
            _draw_cell(axis, table, split, defence, column, row=row)


def _draw_cell(axis: Any, table: Table, split: Split, defence: str, column: Column, *, row: int) -> None:
    from matplotlib.patches import Rectangle

    worst = column.attack is None
    value = table.worst(split, defence) if column.attack is None else table.mean(split, column.attack, defence)
    band = next(band for band in BANDS if value >= band.at_least)
    axis.add_patch(Rectangle((column.left + 0.02, row + 0.04), 0.96, 0.92, color=band.colour, linewidth=0))
    style = {"fontsize": 8.5, "color": band.ink, "weight": "bold" if worst else "normal"}
    axis.text(column.left + 0.5, row + 0.5, f"{value:.1f}", ha="center", va="center_baseline", **style)


def _draw_legend(figure: Any) -> None:
    from matplotlib.patches import Rectangle

    left, middle, sides = MARGIN + NAME_WIDTH, 0.2, figure.get_size_inches()
    for band in BANDS:
        corner, size = _fractions((left, middle - 0.08), sides), _fractions((0.25, 0.16), sides)
        figure.add_artist(Rectangle(corner, *size, color=band.colour, linewidth=0))
        _write(figure, left + 0.31, middle, band.label, fontsize=8.5)
        left += 1.2


def _write(figure: Any, left: float, middle: float, text: str, **style: Any) -> None:
    """Write a line that starts `left` inches from the left and stands `middle` inches above the lower edge."""
    figure.text(
        *_fractions((left, middle), figure.get_size_inches()), text, **{"color": INK, "va": "center_baseline", **style}
    )


def _fractions(inches: tuple[float, float], sides: tuple[float, float]) -> tuple[float, float]:
    return inches[0] / sides[0], inches[1] / sides[1]
