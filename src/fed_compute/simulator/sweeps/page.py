"""The overview of a sweep as one HTML page: the best, the lines, the table, the reports, and how to do it again."""

import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import tomli_w

from fed_compute.simulator.report.charts import Axis, Series
from fed_compute.simulator.report.page import BY_ROUND, Plot, lines, percent, seconds, short, template, time_unit
from fed_compute.simulator.report.report import PAGE as REPORT_PAGE
from fed_compute.simulator.sweeps.outcome import Curve, Outcome, Row

if TYPE_CHECKING:
    from fed_compute.simulator.sweeps.result import Sweep

NUM_COLOURS = 12
MOST_LINES = 24


def write_page(sweep: "Sweep", *, embedded: bool = False) -> str:
    """Return the page as a whole document, or embedded in another one, where it links to nothing."""
    table, rows = sweep.table(), sweep.rows
    return template("sweep.html").render(
        sweep=sweep,
        embedded=embedded,
        alike=_alike(sweep),
        tiles=_tiles(sweep),
        plots=_plots(sweep.rows),
        table=table,
        rows=[
            (row, texts, [(outcome, _link(outcome)) for outcome in row.outcomes])
            for row, texts in zip(rows, table.rows, strict=True)
        ],
        num_missing=len(sweep.design.runs) - len(sweep.outcomes),
        command=sweep.command(),
        job=tomli_w.dumps(sweep.design.base.job.model_dump(exclude_none=True)),
    )


def _alike(sweep: "Sweep") -> str:
    """Return what all simulations have in common, of the things that one asks for first."""
    base, swept = sweep.design.base, set(sweep.design.grid.names.values())
    told = {"clients": f"{base.clients:,} virtual clients", "split": f"split {base.split}", "seed": f"seed {base.seed}"}
    return " · ".join(text for name, text in told.items() if name not in swept)


def _tiles(sweep: "Sweep") -> list[tuple[str, str, str]]:
    best, outcomes = sweep.best, sweep.outcomes
    failed = sum(outcome.error is not None for outcome in outcomes)
    tiles = []
    if best is not None:
        accuracy, loss = best.measure("accuracy"), best.measure("loss")
        found = percent(accuracy.mean) if accuracy is not None else short(loss.mean) if loss is not None else "–"
        tiles.append(("best accuracy" if accuracy is not None else "best loss", found, best.name))
    tiles.append(("simulations", str(len(outcomes)), f"{failed} failed" if failed else "all came to an end"))
    virtual = sum(outcome.summary["virtual_seconds"] for outcome in outcomes if outcome.summary is not None)
    tiles.append(("virtual time", seconds(virtual), "of all together"))
    tiles.append(("computing", seconds(sum(outcome.wall_seconds for outcome in outcomes)), "wall time of all together"))
    return tiles


def _plots(rows: Sequence[Row]) -> list[Plot]:
    has_classes = any(row.measure("accuracy") is not None for row in rows)
    drawn = [(row.legend, curve) for row in rows if (curve := Curve.of(row, has_classes=has_classes)) is not None]
    drawn = drawn[:MOST_LINES]
    if not drawn:
        return []
    what = "Accuracy" if has_classes else "Loss"
    y = Axis("accuracy", percent, lowest=0.0, highest=1.0) if has_classes else Axis("loss", short, lowest=0.0)
    rounds = np.unique([float(number) for _, curve in drawn for number in curve.rounds])
    times = np.unique(np.round([second for _, curve in drawn for second in curve.seconds], 3))
    by_round = [(name, np.array(curve.rounds, dtype=float), curve.means) for name, curve in drawn]
    by_time = [(name, np.array(curve.seconds), curve.means) for name, curve in drawn]
    clock = Axis("virtual time", seconds, lowest=0.0, unit=time_unit)
    note = "on held-out samples" + (", mean over the seeds" if any(curve.deviations for _, curve in drawn) else "")
    return [
        lines(f"{what} over rounds", note, list(rounds), _series(by_round, rounds), BY_ROUND, y),
        lines(f"{what} over virtual time", "the same by the clock", list(times), _series(by_time, times), clock, y),
    ]


def _series(curves: Sequence[tuple[str, np.ndarray, Sequence[float]]], xs: np.ndarray) -> list[Series]:
    """Return each curve at all of xs: between its own points on the line between them, nothing after its end."""
    return [
        Series(name, np.interp(xs, own, values, right=math.nan).tolist(), place % NUM_COLOURS + 1)
        for place, (name, own, values) in enumerate(curves)
    ]


def _link(outcome: Outcome) -> str | None:
    from fed_compute.simulator.sweeps.result import RUNS

    return None if outcome.summary is None else quote(str(PurePosixPath(RUNS, outcome.run.folder, REPORT_PAGE)))
