"""The result of a sweep, and the folder that it is written into."""

import csv
import json
import re
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from fed_compute.errors import ExtraMissing
from fed_compute.simulator.population import fleet_given, preset_names
from fed_compute.simulator.report.report import write_parquet
from fed_compute.simulator.sweeps.design import Behavior, Design, label
from fed_compute.simulator.sweeps.grid import Grid
from fed_compute.simulator.sweeps.outcome import Outcome, Row, best_of, rows_of
from fed_compute.simulator.sweeps.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, CSV, PARQUET, JSON, PICTURE, MAP, JOB, FLEETS, RUNS = (
    "sweep.html",
    "sweep.csv",
    "sweep.parquet",
    "sweep.json",
    "sweep.png",
    "sweep-map.png",
    "job.toml",
    "fleets",
    "runs",
)

_BASE_FLEET = "base.toml"


class Sweep:
    """How a sweep went. In a notebook it shows itself.

    `design` says what was tried, `outcomes` has what came of each run that ended, in the order of the grid, and
    `folder` is where everything lies.
    """

    def __init__(self, design: Design, outcomes: Sequence[Outcome], folder: Path) -> None:
        self.design = design
        self.outcomes = tuple(outcomes)
        self.folder = folder

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """A row for each combination; runs that differ only in their seed share one."""
        return rows_of(self.outcomes, self.design.grid)

    @property
    def best(self) -> Row | None:
        """The row whose last model is the best on held-out samples: by accuracy, or loss where there are no classes."""
        return best_of(self.rows)

    @property
    def title(self) -> str:
        """What was compared, in one line."""
        grid = self.design.grid
        seeds = len(grid.axes.get("seed", ()))
        told = " × ".join(grid.varied) or "one combination"
        return f"{self.design.base.job.name}: {told}" + (f", {seeds} seeds" if seeds > 1 else "")

    def table(self) -> Table:
        """Return the comparison as a table: `print` it, let a notebook show it, or take its `to_markdown()`."""
        return Table.of(self.rows, self.design.grid)

    def plot(self) -> "Figure":
        """Return accuracy (or loss) of every row over rounds and over virtual time, as a matplotlib figure.

        Raises:
            ExtraMissing: if matplotlib is not installed.
        """
        from fed_compute.simulator.sweeps.figure import draw_lines

        return draw_lines(self.rows, self.design.grid, title=self.title)

    def plot_map(self) -> "Figure":
        """Return the last accuracy (or loss) for two keys as a map, the first downwards and the second across.

        Raises:
            SweepInvalid: if not exactly two keys besides the seed have several values.
            ExtraMissing: if matplotlib is not installed.
        """
        from fed_compute.simulator.sweeps.figure import draw_map

        return draw_map(self.rows, self.design.grid, title=self.title)

    def command(self, folder: Path | None = None) -> str:
        """Return the command that does the same again; with `folder`, from the files that were written there."""
        base, place = self.design.base, Path() if folder is None else folder
        words = ["fed-compute", "simulate", str(place / JOB), "--clients", str(base.clients)]
        words += ["--data", base.data if isinstance(base.data, str) else "YOUR-ARRAYS.npz"]
        words += ["--behavior", str(place / FLEETS / _BASE_FLEET), "--split", base.split, "--seed", str(base.seed)]
        if base.samples_per_client is not None:
            words += ["--samples-per-client", str(base.samples_per_client)]
        if base.measure_every != 1:
            words += ["--measure-every", str(base.measure_every)]
        if base.plan is not None:
            words += ["--plan", base.plan]
        return shlex.join([*words, "--sweep", *self._written_grid(place / FLEETS).words()])

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data: `rows` as compared, `runs` one by one, and the `best` row's values."""
        best = self.best
        return {
            "job": self.design.base.job.name,
            "combinations": len(self.design.runs),
            "finished": sum(outcome.error is None for outcome in self.outcomes),
            "failed": sum(outcome.error is not None for outcome in self.outcomes),
            "best": None if best is None else {key: label(value) for key, value in best.values.items()},
            "rows": [row.to_json() for row in self.rows],
            "runs": [outcome.to_json() for outcome in self.outcomes],
        }

    def csv(self) -> str:
        """Return the runs as CSV, a line for each, with a header."""
        rows = [outcome.to_json() for outcome in self.outcomes]
        text = StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]) if rows else ["run"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def html(self) -> str:
        """Return the overview: one file, which links to the reports of the runs beside it."""
        from fed_compute.simulator.sweeps.page import write_page

        return write_page(self)

    def _repr_html_(self) -> str:
        from fed_compute.simulator.sweeps.page import write_page

        return write_page(self, embedded=True)

    def write(self) -> None:
        """Write overview, table, picture, job and fleets beside the reports; Parquet and picture where they can be."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / PAGE).write_text(self.html(), encoding="utf-8")
        (self.folder / CSV).write_text(self.csv(), encoding="utf-8")
        (self.folder / JSON).write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
        (self.folder / JOB).write_text(
            tomli_w.dumps(self.design.base.job.model_dump(exclude_none=True)), encoding="utf-8"
        )
        self._write_fleets(self.folder / FLEETS)
        write_parquet([outcome.to_json() for outcome in self.outcomes], self.folder / PARQUET)
        with suppress(ExtraMissing):  # the page has the same lines
            self.plot().savefig(self.folder / PICTURE, dpi=150, metadata={"Software": None})
            if len(self.design.grid.varied) == 2:
                self.plot_map().savefig(self.folder / MAP, dpi=150, metadata={"Software": None})

    def save(self, folder: str | Path) -> Path:
        """Copy everything into a folder, which is made, and return it. Files of an earlier sweep are replaced."""
        target = Path(folder)
        if target.resolve() != self.folder.resolve():
            shutil.copytree(self.folder, target, dirs_exist_ok=True)
        return target

    def _written_grid(self, fleets: Path) -> Grid:
        """Return the grid with files in the place of fleets that are no presets."""
        axes, names = dict(self.design.grid.axes), self.design.grid.names
        if "behavior" in axes:
            axes["behavior"] = tuple(
                value if value in preset_names() else str(fleets / _fleet_file(number, value))
                for number, value in enumerate(axes["behavior"], start=1)
            )
        return Grid(axes, names)

    def _write_fleets(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        fleets: dict[str, Behavior] = {_BASE_FLEET: self.design.base.behavior}
        swept = self.design.grid.axes.get("behavior", ())
        fleets |= {_fleet_file(number, value): value for number, value in enumerate(swept, start=1)}
        for name, fleet in fleets.items():
            content = tomli_w.dumps(fleet_given(fleet).model_dump(exclude_none=True))
            (folder / name).write_text(content, encoding="utf-8")


def _fleet_file(number: int, behavior: Behavior) -> str:
    return f"{number}-{re.sub(r'[^A-Za-z0-9_-]+', '-', label(behavior))[:40]}.toml"
