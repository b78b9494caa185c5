"""The report as one HTML page: numbers, plots, the split, the rounds, and how to do it again."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import tomli_w
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from fed_compute.simulator.history import RoundRow
from fed_compute.simulator.report.charts import Axis, Series, bar_chart, legend, line_chart
from fed_compute.simulator.splits import Holdings

if TYPE_CHECKING:
    from fed_compute.simulator.report.report import Report

MOST_CLIENTS_SHOWN = 60
MOST_CLASSES_SHOWN = 12
MOST_BARS = 120
_TIMES = (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0))
_SIZES = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture of the page, with what to read from it."""

    title: str
    note: str
    legend: str
    picture: str


BY_ROUND = Axis("round", lambda value: _whole(value))


def write_page(report: "Report", *, embedded: bool = False) -> str:
    """Return the page as a whole document, or embedded in another one."""
    summary = report.summary()
    return template("page.html").render(
        report=report,
        summary=summary,
        embedded=embedded,
        tiles=_tiles(report),
        learning=_learning(report) if report.rounds else [],
        fleet=_fleet(report) if report.rounds else [],
        split=split_plot(report.holdings, str(report.setup.split)),
        command=report.setup.command(),
        job=tomli_w.dumps(report.setup.job.model_dump(exclude_none=True)),
        fleet_file=tomli_w.dumps(report.setup.fleet.model_dump(exclude_none=True)),
        seconds=seconds,
        size=size,
        percent=percent,
    )


@cache
def template(name: str) -> Template:
    """Return one of the pages; all look alike."""
    loader = PackageLoader("fed_compute.simulator.report", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(name)


def _tiles(report: "Report") -> list[tuple[str, str, str]]:
    summary, last = report.summary(), report.rounds[-1] if report.rounds else None
    quality = (
        ("loss", f"{report.loss:.4g}", f"{report.first.loss:.4g} before training")
        if report.accuracy is None
        else ("accuracy", percent(report.accuracy), f"{percent(report.first.accuracy or 0.0)} before training")
    )
    leases = max(1, summary["leases"])
    measured = report.measured
    return [
        quality,
        *([] if measured is None else [_measured_tile(measured)]),
        ("virtual time", seconds(summary["virtual_seconds"]), f"{len(report.rounds)} rounds"),
        ("updates counted", f"{summary['updates']:,}", f"of {summary['leases']:,} leases"),
        ("clients counted", f"{last.num_contributors if last else 0:,}", f"of {report.setup.num_clients:,}"),
        ("vanished", percent(summary["vanished"] / leases), f"{summary['vanished']:,} leases"),
        ("sent", size(summary["bytes_up"]), f"{size(summary['bytes_down'])} fetched"),
    ]


def _measured_tile(row: RoundRow) -> tuple[str, str, str]:
    if row.federated_accuracy is None:
        low, high = row.federated_loss_p10 or 0.0, row.federated_loss_p90 or 0.0
        return "loss on clients", f"{row.federated_loss or 0.0:.4g}", f"from {low:.3g} to {high:.3g} for most"
    low, high = row.federated_accuracy_p10 or 0.0, row.federated_accuracy_p90 or 0.0
    return "accuracy on clients", percent(row.federated_accuracy), f"{percent(low)} to {percent(high)} for most"


def _learning(report: "Report") -> list[Plot]:
    curve = report.curve
    rounds, times = [float(point.round) for point in curve], [point.seconds for point in curve]
    by_round, by_time = BY_ROUND, Axis("virtual time", seconds, lowest=0.0, unit=time_unit)
    loss = Series("loss", [point.quality.loss for point in curve], 2)
    plots = []
    if report.accuracy is not None:
        accuracy = Series("accuracy", [point.quality.accuracy or 0.0 for point in curve], 1)
        share = Axis("accuracy", percent, lowest=0.0, highest=1.0)
        plots.append(lines("Accuracy over rounds", "on held-out samples", rounds, [accuracy], by_round, share))
        plots.append(
            lines("Accuracy over virtual time", "the same versions by the clock", times, [accuracy], by_time, share)
        )
    losses = Axis("loss", short, lowest=0.0)
    plots.append(lines("Loss over rounds", "on held-out samples", rounds, [loss], by_round, losses))
    plots.append(lines("Loss over virtual time", "the same versions by the clock", times, [loss], by_time, losses))
    return plots + _federated(report)


def _federated(report: "Report") -> list[Plot]:
    """Return what clients measured, beside the same versions on held-out samples; nothing if they measured nothing."""
    rows = [row for row in report.rounds if row.federated_clients]
    if not rows:
        return []
    rounds, most = [float(row.round) for row in rows], max(row.federated_clients for row in rows)
    note = f"each client on samples that it holds out, up to {most:,} clients a version, weighted by samples"

    def drawn(title: str, name: str, axis: Axis) -> Plot:
        columns = (
            ("mean of clients", f"federated_{name}", 1),
            ("10 % of clients are below", f"federated_{name}_p10", 7),
            ("10 % of clients are above", f"federated_{name}_p90", 9),
            ("on held-out samples", name, 2),
        )
        series = [
            Series(label, [_or_nan(getattr(row, column)) for row in rows], colour) for label, column, colour in columns
        ]
        return lines(title, note, rounds, series, BY_ROUND, axis)

    losses = drawn("Loss on clients", "loss", Axis("loss", short, lowest=0.0))
    if report.accuracy is None:
        return [losses]
    return [drawn("Accuracy on clients", "accuracy", Axis("accuracy", percent, lowest=0.0, highest=1.0)), losses]


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _fleet(report: "Report") -> list[Plot]:
    rows = report.rounds
    rounds, by_round = [float(row.round) for row in rows], BY_ROUND
    count = Axis("clients", _whole, lowest=0.0, highest=max(2.0, float(rows[-1].num_contributors)))
    duration = Axis("duration", seconds, lowest=0.0, unit=time_unit)
    versions = Axis("versions", short, lowest=0.0, highest=max(1.0, float(max(row.max_staleness for row in rows))))
    volume = Axis("bytes", size, lowest=0.0, unit=_size_unit)
    joined = Series("clients counted at least once", [float(row.num_contributors) for row in rows], 1)
    took = Series("duration", [row.duration_seconds for row in rows], 5)
    stale = [
        Series("mean", [row.mean_staleness for row in rows], 1),
        Series("largest", [float(row.max_staleness) for row in rows], 4),
    ]
    is_buffered = report.setup.job.rounds.mode == "fedbuff"
    stale_note = "versions between an update's base and its round's" + ("" if is_buffered else "; none in rounds")
    up, down = (np.cumsum([getattr(row, name) for row in rows]) for name in ("bytes_up", "bytes_down"))
    traffic = [
        Series("sent to the coordinator", [float(value) for value in up], 1),
        Series("fetched from it", [float(value) for value in down], 3),
    ]
    return [
        _bars("What became of the leases", "per round", _binned(rows)),
        lines("Participation", "clients with at least one counted update", rounds, [joined], by_round, count),
        lines(
            "Duration of rounds",
            "virtual time from opening to end",
            rounds,
            [took],
            by_round,
            duration,
        ),
        lines(
            "Staleness",
            stale_note,
            rounds,
            stale,
            by_round,
            versions,
        ),
        lines("Traffic", "all rounds so far", rounds, traffic, by_round, volume),
    ]


def split_plot(holdings: Holdings, name: str) -> Plot:
    """Return how many samples of each class each of the first clients has."""
    clients, (classes, counts) = min(len(holdings), MOST_CLIENTS_SHOWN), holdings.table(MOST_CLIENTS_SHOWN)
    series = [
        Series(str(label), [float(value) for value in counts[:, place]], place % MOST_CLASSES_SHOWN + 1)
        for place, label in enumerate(classes)
    ]
    names = [str(client) for client in range(clients)]
    shown = "all" if clients == len(holdings) else f"the first {clients} of {len(holdings):,}"
    drawn = ", drawn with replacement" if holdings.is_drawn else ""
    picture = bar_chart(names, series, x=Axis("client", _whole), y=Axis("samples", _whole))
    note = f"split {name}: samples of each class that {shown} clients have{drawn}"
    return Plot("Who has what", note, legend(series), picture)


def _binned(rows: Sequence[RoundRow]) -> tuple[list[str], list[Series]]:
    """Return what became of leases in each round; neighbours share a bar where there are too many rounds."""
    every = -(-len(rows) // MOST_BARS)
    groups = [rows[start : start + every] for start in range(0, len(rows), every)]
    kinds = [("counted", "num_updates", 1), ("vanished", "num_vanished", 4), ("late", "num_late", 3),
             ("stopped", "num_stopped", 6), ("refused", "num_refused", 2)]  # fmt: skip
    series = [
        Series(name, [float(sum(getattr(row, field) for row in group)) for group in groups], colour)
        for name, field, colour in kinds
    ]
    return [str(group[0].round) for group in groups], series


def _bars(title: str, note: str, table: tuple[list[str], list[Series]]) -> Plot:
    names, series = table
    picture = bar_chart(names, series, x=Axis("round", _whole), y=Axis("leases", _whole))
    return Plot(title, note, legend(series), picture)


def lines(title: str, note: str, xs: Sequence[float], series: Sequence[Series], x: Axis, y: Axis) -> Plot:
    """Return lines with their legend."""
    return Plot(title, note, legend(series), line_chart(xs, series, x=x, y=y))


def time_unit(highest: float) -> float:
    """Return the seconds of the unit in which times up to the highest are written."""
    return next((length for _, length in _TIMES if highest >= 2 * length), 1.0)


def _size_unit(highest: float) -> float:
    return next((length for _, length in _SIZES if highest >= length), 1.0)


def _whole(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def short(value: float) -> str:
    """Write a number with three digits."""
    return f"{value:.3g}"


def percent(share: float) -> str:
    """Write a fraction as per cent."""
    return f"{100 * share:.3g} %"


def seconds(value: float) -> str:
    """Write a duration in its usual unit."""
    for unit, length in _TIMES:
        if value >= 2 * length:
            return f"{value / length:.3g} {unit}"
    return f"{value:.3g} s"


def size(num_bytes: float) -> str:
    """Write a number of bytes in its usual unit."""
    for unit, length in _SIZES:
        if num_bytes >= length:
            return f"{num_bytes / length:.3g} {unit}"
    return f"{num_bytes:.0f} B"
