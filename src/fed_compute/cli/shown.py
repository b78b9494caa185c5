"""How an operator's lists look: tables that fit 80 columns, and times as people say them."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from fed_compute.cli.console import err, out

STYLES = {
    "live": "green", "active": "green", "open": "green",
    "running": "green", "finished": "green", "paused": "yellow", "stopped": "red",
    "OPEN": "dim", "COLLECTING": "cyan", "AGGREGATING": "cyan", "CLOSED": "green", "ABANDONED": "yellow",
    "pending": "yellow", "used_up": "dim", "expired": "dim", "revoked": "red", "banned": "red",
}  # fmt: skip
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def span(seconds: float) -> str:
    """Return a duration in its largest whole unit: 90 becomes `1 min`."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "0 s"


def when(moment: float | None, *, now: float, never: str = "never") -> str:
    """Return a moment as people say it: `3 h ago`, `in 6 d`."""
    if moment is None:
        return never
    return f"{span(now - moment)} ago" if moment <= now else f"in {span(moment - now)}"


def date(moment: float) -> str:
    """Return a moment as date and time in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")


def state(name: str) -> Text:
    """Return a state in its colour."""
    return Text(name.replace("_", " "), STYLES.get(name, ""))


def figure(value: float | None) -> str:
    """Return a measured number with three decimals, or three digits if that would say too little; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.3f}" if value == 0 or 0.01 <= abs(value) < 1e6 else f"{value:.2e}"


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, empty: str) -> None:
    """Write a table, or one line if there is nothing to show. Ids and names are never cut."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, no_wrap=name in ("id", "client"), overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    if table.row_count:
        out.print(table)
    else:
        out.print(empty, style="dim")


def show_facts(facts: Iterable[tuple[str, str | Text]]) -> None:
    """Write facts as two columns."""
    table = Table.grid(padding=(0, 2))
    for name, value in facts:
        table.add_row(Text(name, "dim"), value if isinstance(value, Text) else Text(value))
    out.print(table)


def note(text: str) -> None:
    """Write a remark to standard error, where it does not get into what a program reads."""
    err.print(text, style="dim", markup=False)
