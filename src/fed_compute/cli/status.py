"""`fed-compute status`: what the clients of this machine do."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from fed_compute.cli.console import out, print_json, print_line
from fed_compute.cli.control import client_names
from fed_compute.cli.shown import show_facts, span, when
from fed_compute.cli.watching import size
from fed_compute.client.answers import printable
from fed_compute.client.config import load_settings
from fed_compute.client.departures import sent_folder
from fed_compute.client.history import DayBook
from fed_compute.client.roster import Pile, Resident, residents
from fed_compute.client.status import Status, Today
from fed_compute.client.wishes import Wish
from fed_compute.errors import ClientNotRunning

STATUS_EXIT_CODES = "Exit codes: 0 one that is shown runs, 1 none does, 2 no client of this name has ever run here."
_STYLES = {"training": "green", "measuring": "green", "sending": "cyan", "paused": "yellow", "resting": "yellow"}
_TODAY = (
    ("accepted", "accepted"), ("measured", "measured"), ("over", "too late"), ("refused", "refused"),
    ("failed", "failed"), ("given_back", "given back"),
)  # fmt: skip


def status(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Only this client.", show_default="all that run or have work waiting", autocompletion=client_names
        ),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder that `join` was given.", show_default="your user's state folder")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Also clients that do not run and have sent all.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show what each client of this machine does: its task and how far it is, what waits to be sent, today's counts."""
    folder = load_settings(client_state_dir=state_dir).client_state_dir
    found = residents(folder)
    chosen = [one for one in found if name in (one.name, one.folder.slot)] if name is not None else found
    if name is not None and not chosen:
        raise ClientNotRunning(name, state_dir=str(folder), names=[one.name for one in found if one.is_running])
    if name is None and not show_all:
        chosen = [one for one in found if one.is_running or one.waiting.count]
    today = date.today()
    updates = DayBook(sent_folder(folder)).read().on(today)
    if as_json:
        print_json(
            {
                "state_dir": str(folder),
                "clients": [_document(one, time.time()) for one in chosen],
                "updates_sent_today": updates,
            }
        )
    else:
        _show(chosen, folder, updates=updates)
    if not any(one.is_running for one in chosen):
        raise typer.Exit(1)


def _document(one: Resident, now: float) -> dict[str, Any]:
    known = {} if one.status is None else asdict(one.status)
    return {
        "client": one.name,
        "running": one.is_running,
        **{field: known.get(field) for field in ("coordinator", "pid", "started_at", "updated_at")},
        **{
            field: known.get(field) if one.is_running else None
            for field in ("doing", "why", "since", "trouble", "task")
        },
        "wish": one.wish_at(now).kind,
        "pause_ends_at": one.wish_at(now).until,
        "spool": {"waiting": _pile(one.waiting), "set_aside": _pile(one.aside)},
        "today": asdict(_today(one.status, date.today())),
    }


def _pile(pile: Pile) -> dict[str, Any]:
    return {**asdict(pile), "folder": str(pile.folder)}


def _today(known: Status | None, day: date) -> Today:
    """Return the counts of a day, which are zero if the last event was on another one."""
    is_today = known is not None and known.today.day == day.isoformat()
    return known.today if known is not None and is_today else Today(day.isoformat())


def _show(chosen: list[Resident], folder: Path, *, updates: int) -> None:
    now = time.time()
    for one in chosen:
        running = one.is_running and one.status is not None
        where = f" at {one.status.coordinator}" if one.status is not None else ""
        out.print(Text.assemble((printable(one.name), "bold"), where, ("" if running else "  not running", "dim")))
        show_facts(("  " + label, text) for label, text in _facts(one, now))
    if not chosen:
        print_line(f"no client runs with the state folder {folder}; start one with fed-compute join")
    if updates:
        print_line(f"{_counted(updates, 'update')} left this machine today")


def _facts(one: Resident, now: float) -> Iterator[tuple[str, str | Text]]:
    known = one.status
    if known is not None and one.is_running:
        yield "now", _now(known, now)
        if known.trouble is not None:
            yield "trouble", Text(printable(known.trouble), "yellow")
        if (wish := _wish(one.wish_at(now), known)) is not None:
            yield "asked", Text(wish, "yellow")
    elif known is not None:
        yield "last seen", when(known.updated_at, now=now)
    yield "spool", _spool(one, now)
    if known is not None:
        yield "today", _counts(_today(known, date.fromtimestamp(now)))
    if known is not None and one.is_running:
        yield "process", f"{known.pid}, for {span(now - known.started_at)}"


def _now(known: Status, now: float) -> Text:
    """Return what a client does, as its owner would say it."""
    words: str = known.doing
    if (task := known.task) is not None:
        words += f" {task.model_version}, round {task.round_id} of job {task.job}"
        if known.doing == "sending" and task.num_bytes:
            words += f" ({size(task.sent)} of {size(task.num_bytes)})"
        elif known.doing in ("training", "paused"):
            words += f" ({task.fraction:.0%} done)"
    if known.why and known.doing in ("waiting", "resting", "paused"):
        words += f": {known.why}"
    style, since = _STYLES.get(known.doing, ""), f", for {span(now - known.since)}"
    return Text.assemble((printable(words), style), (since, "dim"))


def _wish(wish: Wish, known: Status) -> str | None:
    if wish.kind == "finish":
        return "to finish after this task"
    if wish.kind == "pause" and known.doing != "paused":
        return "to pause"
    return None


def _spool(one: Resident, now: float) -> str:
    if not one.waiting.count:
        said = "empty"
    else:
        verb = "waits" if one.waiting.count == 1 else "wait"
        since = f" since {span(now - one.waiting.oldest_at)}" if one.waiting.oldest_at is not None else ""
        said = f"{_counted(one.waiting.count, 'update')} ({size(one.waiting.num_bytes)}) {verb} to be sent{since}"
        said += "" if one.is_running else "; fed-compute join sends it first"
    return f"{said}; {one.aside.count} set aside in {one.aside.folder}" if one.aside.count else said


def _counts(today: Today) -> str:
    parts = [f"{count} {words}" for field, words in _TODAY if (count := getattr(today, field))]
    trained = [f"trained for {span(today.training_seconds)}"] if today.training_seconds else []
    return ", ".join(parts + trained) or "nothing yet"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
