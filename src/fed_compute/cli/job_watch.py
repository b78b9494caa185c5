"""A job as one watches it: a picture that is drawn over itself, lines where there is no terminal, or JSON lines."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fed_compute.cli.admin_api import AdminApi
from fed_compute.cli.console import err, out, print_line
from fed_compute.cli.shown import figure, span, state
from fed_compute.errors import CoordinatorBusy, CoordinatorUnreachable

OVER = ("finished", "stopped")
_STRIP = ("OPEN", "COLLECTING", "AGGREGATING", "CLOSED")
_BLOCKS = "▁▂▃▄▅▆▇█"
_OTHER_LINES = 15
"""Lines of the picture that are not rounds of its table."""

Job = dict[str, Any]
Round = dict[str, Any]
Show = Callable[[Job, Round | None], None]


def watch_job(api: AdminApi, name: str, *, every_seconds: float, as_json: bool) -> None:
    """Show a job until it ends. A coordinator that does not answer now is asked again.

    Raises:
        CallRefused: if there is no such job.
        CoordinatorUnreachable: if nobody answers the first call.
    """
    job = api.get(f"/jobs/{name}")
    if as_json or not out.is_terminal:
        _follow(api, job, (JsonLines() if as_json else PlainLines()).show, every_seconds)
        return
    with Live(console=out, auto_refresh=False) as live:

        def show(job: Job, current: Round | None) -> None:
            picture_ = picture(job, current, url=api.url, now=time.time(), width=out.width, height=out.height)
            live.update(picture_, refresh=True)

        _follow(api, job, show, every_seconds)


def _follow(api: AdminApi, job: Job, show: Show, every_seconds: float) -> None:
    while True:
        try:
            round_id = job["current_round_id"]
            show(job, None if round_id is None else api.get(f"/status/{round_id}"))
            if job["state"] in OVER:
                return
            time.sleep(every_seconds)
            job = api.get(f"/jobs/{job['name']}")
        except (CoordinatorUnreachable, CoordinatorBusy) as error:
            err.print(f"{error.message}; trying again", style="dim", markup=False)
            time.sleep(max(every_seconds, error.retry_after_seconds))


class JsonLines:
    """One JSON object a line, whenever something has changed."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, job: Job, current: Round | None) -> None:
        """Write where the job stands, if that is new."""
        newest = job["rounds"][-1] if job["rounds"] else {}
        told = {
            "job": job["name"],
            "state": job["state"],
            "rounds_closed": job["rounds_closed"],
            "rounds_total": job["rounds_total"],
            "latest_version": job["latest_version"],
            "round_id": job["current_round_id"],
            "round_state": None if current is None else current["state"],
            "updates": None if current is None else current["total_updates"],
            "clients": None if current is None else current["total_clients"],
            "train_loss": newest.get("train_loss"),
            "loss": _last_of(job, "evaluation_loss"),
            "accuracy": _last_of(job, "accuracy"),
        }
        if (line := json.dumps(told)) != self._last:
            self._last = line
            out.print(line, markup=False)


class PlainLines:
    """One line for each round that ended and for each change of the job's state."""

    def __init__(self) -> None:
        self._told: set[int] = set()
        self._state = ""

    def show(self, job: Job, _: Round | None) -> None:
        """Write what is new; that a job is over comes last."""
        is_over = job["state"] in OVER
        if not is_over:
            self._tell_state(job)
        for round_ in job["rounds"]:
            if round_["state"] in ("CLOSED", "ABANDONED") and round_["round_id"] not in self._told:
                self._told.add(round_["round_id"])
                print_line(_line(round_, job["rounds_total"]))
        if is_over:
            self._tell_state(job)

    def _tell_state(self, job: Job) -> None:
        if job["state"] != self._state:
            self._state = job["state"]
            print_line(f"job {job['name']} is {self._state}")


def picture(job: Job, current: Round | None, *, url: str, now: float, width: int, height: int) -> RenderableType:
    """Return everything that the live view shows, no taller than the terminal."""
    lines: list[RenderableType] = [
        Text.assemble((job["name"], "bold"), "  ", state(job["state"]), "  ", (f"{url}", "dim")),
        Text(f"{job['model']} with {job['num_parameters']:,} parameters, newest {job['latest_version']}", "dim"),
        Text(),
        _progress(job, width=width),
        Text(),
    ]
    if current is not None:
        lines += [*_current(job, current, now=now), Text()]
    lines += [_curves(job["rounds"], width=width), Text()]
    lines.append(_table(job["rounds"], num_rounds=max(1, height - _OTHER_LINES)))
    return Group(*lines)


def sparkline(values: Sequence[float], *, num_cells: int) -> str:
    """Draw the last values as blocks between the least and the greatest of them."""
    shown = values[-num_cells:]
    low, high = min(shown), max(shown)
    if high == low:
        return _BLOCKS[len(_BLOCKS) // 2] * len(shown)
    return "".join(_BLOCKS[round((value - low) / (high - low) * (len(_BLOCKS) - 1))] for value in shown)


def _progress(job: Job, *, width: int) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        Text("rounds", "bold"),
        ProgressBar(
            total=job["rounds_total"],
            completed=job["rounds_closed"],
            width=max(10, min(50, width - 30)),
            complete_style="green",
        ),
        Text(f"{job['rounds_closed']} of {job['rounds_total']}"),
    )
    return grid


def _current(job: Job, current: Round, *, now: float) -> list[RenderableType]:
    number = next((r["number"] for r in job["rounds"] if r["round_id"] == current["round_id"]), "?")
    strip = Text.assemble((f"round {number}  ", "bold"))
    reached = _STRIP.index(current["state"]) if current["state"] in _STRIP else -1
    for place, name in enumerate(_STRIP):
        style = "bold cyan" if place == reached else "green" if place < reached else "dim"
        strip.append(f"{'●' if place <= reached else '○'} {name.lower()}", style)
        strip.append(" ─ " if place < len(_STRIP) - 1 else "", "dim")
    reported = set(current["updates_received"])
    facts = f"updates {current['total_updates']} of {current['target_updates']}"
    if current["deadline"] is not None:
        facts += f", {span(max(0.0, current['deadline'] - now))} left"
    elif job["state"] == "paused":
        facts += ", its time stands still"
    names = Text.assemble(("clients  ", "bold"))
    for client in current["assigned_clients"][:12]:
        names.append(f"{client} {'✓' if client in reported else '…'}  ", "green" if client in reported else "cyan")
    if (more := current["total_clients"] - 12) > 0:
        names.append(f"and {more} more", "dim")
    if not current["assigned_clients"]:
        names.append("nobody yet", "dim")
    for text in (strip, names):
        text.no_wrap, text.overflow = True, "ellipsis"
    return [strip, Text(facts), names]


def _curves(rounds: Sequence[Round], *, width: int) -> Table:
    grid = Table.grid(padding=(0, 2))
    for title, key, style in (
        ("accuracy", "accuracy", "green"),
        ("loss", "evaluation_loss", "magenta"),
        ("training loss", "train_loss", "blue"),
    ):
        values = [round_[key] for round_ in rounds if round_[key] is not None]
        if values:
            line = sparkline(values, num_cells=max(8, min(60, width - 30)))
            grid.add_row(Text(title, "bold"), Text(line, style), Text(figure(values[-1])))
    if not grid.row_count:
        grid.add_row(Text("no curves yet: they begin with the first round that closes", "dim"))
    return grid


def _table(rounds: Sequence[Round], *, num_rounds: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("round", justify="right")
    table.add_column("state", width=11)
    for title in ("updates", "late", "refused", "accuracy", "loss", "took"):
        table.add_column(title, justify="right", no_wrap=True)
    for round_ in rounds[-num_rounds:]:
        took = round_["duration_seconds"]
        table.add_row(
            str(round_["number"]),
            state(round_["state"]),
            str(round_["updates_accepted"]),
            str(round_["updates_late"]),
            str(round_["updates_refused"]),
            figure(round_["accuracy"]),
            figure(round_["evaluation_loss"]),
            "–" if took is None else f"{took:.1f} s",
        )
    return table


def _line(round_: Round, rounds_total: int) -> str:
    made = round_["result_version"] or round_["reason"] or "–"
    return (
        f"round {round_['number']}/{rounds_total} {round_['state'].lower()}: {round_['updates_accepted']} updates, "
        f"accuracy {figure(round_['accuracy'])}, loss {figure(round_['evaluation_loss'])}, {made}"
    )


def _last_of(job: Job, key: str) -> float | None:
    return next((round_[key] for round_ in reversed(job["rounds"]) if round_[key] is not None), None)
