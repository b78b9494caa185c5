"""`fed-compute sent`: what left this machine."""

import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fed_compute.cli.console import out, print_json, print_line
from fed_compute.cli.watching import lengths, size, told
from fed_compute.client.answers import printable
from fed_compute.client.config import load_settings
from fed_compute.client.departures import Departure, SentLog, read_sent, sent_folder


def sent(
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder that `join` was given.", show_default="your user's state folder")
    ] = None,
    last: Annotated[int, typer.Option(min=1, help="Show so many of the newest entries.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print all entries as one JSON document.")] = False,
) -> None:
    """Show what `join` has sent from this machine: when, what, how much, and what it told beside the weights' change.

    Each entry was on the disk before its first byte was sent; the coordinator may not have taken it. Not listed: asking
    for tasks, heartbeats and giving tasks back, which tell this client's id, and how much of a task is done.
    """
    settings = load_settings() if state_dir is None else load_settings(client_state_dir=state_dir)
    folder = sent_folder(settings.client_state_dir)
    log = read_sent(folder)
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "departures": [asdict(one) for one in log.departures],
                "totals": _totals(log.departures),
                "damaged_lines": log.damaged,
                "older_may_be_missing": log.rotated,
            }
        )
    else:
        _show(log, folder, last)


def _totals(departures: list[Departure]) -> dict[str, dict[str, int]]:
    """Return number and bytes of each kind."""
    counts, num_bytes = Counter(one.kind for one in departures), Counter[str]()
    for one in departures:
        num_bytes[one.kind] += one.num_bytes
    return {kind: {"count": counts[kind], "bytes": num_bytes[kind]} for kind in sorted(counts)}


def _show(log: SentLog, folder: Path, last: int) -> None:
    if not log.departures:
        print_line(f"nothing was sent yet, says {folder}")
        return
    table = Table("when", "what", "job", "round", "size", "told beside the values", box=None, pad_edge=False)
    for column, justify in ((3, "right"), (4, "right")):
        table.columns[column].justify = justify  # type: ignore[assignment]
    for column in range(5):
        table.columns[column].no_wrap = True
    for one in log.departures[-last:]:
        when = time.strftime("%m-%d %H:%M:%S", time.localtime(one.at))
        round_id = "" if one.round_id is None else str(one.round_id)
        norm = one.norm or {}
        beside = Text(printable(told(one.says) + lengths(norm.get("sent"), norm.get("trained"))))
        table.add_row(when, one.kind, one.job or "", round_id, size(one.num_bytes), beside)
    out.print(table, soft_wrap=False)
    print_line(_summary(log, folder, hidden=max(0, len(log.departures) - last)))


def _summary(log: SentLog, folder: Path, *, hidden: int) -> str:
    kinds = [
        f"{total['count']} {kind}{'s' if total['count'] != 1 else ''} ({size(total['bytes'])})"
        for kind, total in _totals(log.departures).items()
    ]
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(log.departures[0].at))
    lines = [f"total since {since}: {', '.join(kinds)}"]
    if hidden:
        lines.append(f"{hidden} older entries not shown: --last {len(log.departures)} shows all, --json with digests")
    if log.rotated:
        lines.append("entries before that may have been dropped: CLIENT_SENT_LOG_MEGABYTES bounds the log")
    if log.damaged:
        lines.append(f"{log.damaged} damaged line(s) were left out, half written in a crash perhaps")
    if any(one.kept for one in log.departures):
        lines.append(f"copies of updates are in {folder / 'updates'}")
    return "\n".join(lines)
