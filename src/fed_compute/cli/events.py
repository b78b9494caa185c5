"""`fed-compute events`: what happens at a coordinator."""

import json
import time
from contextlib import closing
from typing import Annotated, Any

import typer
from rich.text import Text

from fed_compute.cli.admin_api import DEFAULT_URL, Url
from fed_compute.cli.console import out
from fed_compute.cli.control import duration
from fed_compute.cli.event_feed import EventFeed
from fed_compute.client.answers import printable
from fed_compute.clock import SystemClock
from fed_compute.rounds.events import EVENTS

_SHOWN_APART = frozenset({"seq", "at", "kind", "job", "round_id", "client_id"})
_LONGEST = 60
_STYLES = {"refused": "red", "banned": "red", "abandoned": "red", "late": "yellow", "expired": "yellow"}


def kind_names(incomplete: str) -> list[str]:
    """Return the kinds of entries that begin so, for the shell."""
    return [kind.name for kind in EVENTS if kind.name.startswith(incomplete)]


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only of this kind; may be repeated.", autocompletion=kind_names)
    ] = None,
    client: Annotated[str | None, typer.Option(help="Only of this client.")] = None,
    job: Annotated[str | None, typer.Option(help="Only of this job.")] = None,
    since: Annotated[
        str | None, typer.Option(help="From so long ago (90s, 30m, 2h, 1d), or after the entry of this number.")
    ] = None,
    last: Annotated[int, typer.Option(min=0, max=10_000, help="Without --since: among so many of the newest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show what the coordinator's journal says: rounds, leases, updates, versions, credit.

    With --follow a connection that breaks is made anew, and nothing is shown twice or left out. Anybody may look;
    what operators do to keys and clients is left out.
    """
    clock = SystemClock()
    begin = _begin(since, last=last, now=clock.now())
    with closing(EventFeed(url, clock)) as feed:
        for entry in feed.entries(follow=follow, job=job, **begin):
            if (not kind or entry.get("kind") in kind) and client in (None, entry.get("client_id")):
                _show(entry, as_json=as_json)


def _begin(since: str | None, *, last: int, now: float) -> dict[str, float | int]:
    """Return the query that says where to begin."""
    if since is None:
        return {"last": last}
    if since.isascii() and since.isdigit() and len(since) <= 15:
        return {"after": int(since)}
    return {"since": now - duration(since)}


def _show(entry: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        out.print(json.dumps(entry), markup=False)
        return
    kind = str(entry.get("kind"))
    style = next((style for word, style in _STYLES.items() if kind.endswith(word)), "bold")
    about = [
        f"{entry['job']}" if entry.get("job") else "",
        f"round {entry['round_id']}" if entry.get("round_id") else "",
    ]
    words = " ".join(part for part in (*about, entry.get("client_id") or "") if part)
    details = ", ".join(f"{name} {_short(value)}" for name, value in entry.items() if name not in _SHOWN_APART)
    stamp = time.strftime("%m-%d %H:%M:%S", time.localtime(float(entry.get("at", 0.0))))
    out.print(
        Text.assemble(
            (stamp, "dim"), "  ", (printable(kind), style), "  ", printable(words), "  ", (printable(details), "dim")
        )
    )


def _short(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
