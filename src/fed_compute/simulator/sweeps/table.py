"""The comparison as a table of texts: for a terminal, a notebook, a document."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fed_compute.simulator.report.page import seconds, size
from fed_compute.simulator.sweeps.design import label
from fed_compute.simulator.sweeps.grid import Grid
from fed_compute.simulator.sweeps.outcome import Row, best_of

MARK = "★"
LEAST_IMPORTANT = ("fetched", "wall", "sent", "rounds", "best (round)", "loss", "virtual")
Write = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Table:
    """A head and rows of texts; `best` is the place of the best row. `num_keys` columns say what differs."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_keys: int
    best: int | None

    @classmethod
    def of(cls, rows: Sequence[Row], grid: Grid) -> "Table":
        """Write rows; columns in which nothing is said are left out."""
        keys = grid.varied or ("",)
        many_seeds = any(len(row.outcomes) > 1 for row in rows)
        has_classes = any(row.measure("accuracy") is not None for row in rows)
        lines = [_line(row, keys, many_seeds=many_seeds, has_classes=has_classes) for row in rows]
        head = list(lines[0]) if lines else list(keys)
        empty = {column for column in head[len(keys) :] if all(not line[column] for line in lines)}
        shown = [column for column in head if column not in empty]
        best = best_of(rows)
        texts = tuple(tuple(line[column] for column in shown) for line in lines)
        return cls(tuple(shown), texts, len(keys), None if best is None else list(rows).index(best))

    def __str__(self) -> str:
        marks = ["", *(MARK if place == self.best else "" for place in range(len(self.rows)))]
        lines = [(mark, *texts) for mark, texts in zip(marks, [self.head, *self.rows], strict=True)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.head) + 1)]
        return "\n".join(self._in_columns(line, widths) for line in lines)

    __repr__ = __str__

    def within(self, width: int) -> "Table":
        """Return it without its least important columns, as many as it takes to fit a width in characters."""
        here = [name for name in LEAST_IMPORTANT if name in self.head]
        if not here or max(map(len, str(self).splitlines())) <= width:
            return self
        out = self.head.index(here[0])
        rows = tuple(tuple(text for place, text in enumerate(row) if place != out) for row in self.rows)
        head = tuple(name for name in self.head if name != here[0])
        return Table(head, rows, self.num_keys, self.best).within(width)

    def to_markdown(self) -> str:
        """Return it for a document; the best row is bold."""
        rule = [":---" if column < self.num_keys else "---:" for column in range(len(self.head))]
        bold = [
            [f"**{text}**" if place == self.best and text else text for text in row]
            for place, row in enumerate(self.rows)
        ]
        return "\n".join(f"| {' | '.join(line)} |" for line in [self.head, rule, *bold])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(text)}</th>" for text in self.head)
        body = "".join(
            f'<tr style="font-weight:{600 if place == self.best else 400}">'
            + "".join(f"<td>{html.escape(text)}</td>" for text in row)
            + "</tr>"
            for place, row in enumerate(self.rows)
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _in_columns(self, line: Sequence[str], widths: Sequence[int]) -> str:
        """Return one line, texts of keys on the left of their columns and numbers on the right."""
        texts = [
            text.ljust(width) if column <= self.num_keys else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "  ".join(texts).rstrip()


def _line(row: Row, keys: Sequence[str], *, many_seeds: bool, has_classes: bool) -> dict[str, str]:
    quality = _percent if has_classes else _number
    best, place = row.measure("best"), row.measure("best_round")
    line = {key: label(row.values[key]) if key in row.values else "all" for key in keys}
    line["seeds"] = str(len(row.done)) if many_seeds else ""
    line["accuracy"] = _of(row, "accuracy", _percent, spread=True)
    line["loss"] = _of(row, "loss", _number, spread=True)
    line["best (round)"] = "" if best is None or place is None else f"{quality(best.mean)} ({place.mean:.0f})"
    line["rounds"] = _of(row, "rounds", _count)
    line["virtual"] = _of(row, "virtual_seconds", seconds)
    line["wall"] = _of(row, "wall_seconds", seconds)
    line["sent"] = _of(row, "bytes_up", size)
    line["fetched"] = _of(row, "bytes_down", size)
    line["dropped"] = _of(row, "dropped", _count)
    line["refused"] = _of(row, "refused", _count)
    line["failed"] = _count(len(row.outcomes) - len(row.done)) if row.errors else ""
    return line


def _of(row: Row, name: str, write: Write, *, spread: bool = False) -> str:
    found = row.measure(name)
    if found is None:
        return ""
    if not spread or found.deviation is None:
        return write(found.mean)
    deviation = f"{found.deviation:.2g}" if write is _number else write(found.deviation)
    return f"{write(found.mean).removesuffix(' %')} ± {deviation}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _number(value: float) -> str:
    return f"{value:.3g}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
