"""Small pieces of Markdown."""

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a row's cells are Markdown, on one line each."""
    lines = [list(head), ["---"] * len(head), *(list(row) for row in rows)]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def code(text: object) -> str:
    """Return a text as inline code; nothing for an empty one."""
    return f"`{text}`" if str(text) else ""


def plain(text: str | None) -> str:
    """Return a text of the code so that brackets in it are no links and no tags; code in it stays code."""
    parts = (text or "").split("`")
    parts[::2] = [re.sub(r"([\[\]<*_])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def first_line(docstring: str | None) -> str:
    """Return what stands before the first empty line of a docstring, on one line."""
    return " ".join((docstring or "").strip().partition("\n\n")[0].split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
