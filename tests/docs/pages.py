"""The documents of the project, and what is in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tools.site.hooks import filled_in
from tools.site.links import DOCS, FROM_THE_TOP, REPOSITORY

_FENCE = re.compile(
    r"^(?P<mark> *(?:```|~~~))(?P<info>[^\n]*)\n(?P<body>.*?)^ *(?:```|~~~)[ \t]*$", re.DOTALL | re.MULTILINE
)
RUNS = "<!-- runs -->"
"""Stands on the line above a block of Python that a test runs."""


@dataclass(frozen=True)
class Block:
    """One fenced block: where, in which language, what else stands on its first line, and its text."""

    page: str
    line: int
    language: str
    info: str
    text: str
    runs: bool

    @property
    def place(self) -> str:
        """Where it is, for a failure's text and a test's name."""
        return f"{self.page}:{self.line}"


@cache
def documents() -> tuple[Path, ...]:
    """Return every document: those of the top folder and all of docs/."""
    return tuple(REPOSITORY / name for name in FROM_THE_TOP) + tuple(sorted(DOCS.rglob("*.md")))


@cache
def text_of(path: Path) -> str:
    """Return a document's text."""
    return path.read_text(encoding="utf-8")


@cache
def shown(name: str) -> str:
    """Return a page of docs/ as the site shows it, made of the code where it says so."""
    return filled_in(text_of(DOCS / name))


def blocks(*languages: str) -> list[Block]:
    """Return the fenced blocks in some languages, of all documents."""
    return [block for path in documents() for block in _blocks(path) if block.language in languages]


def prose(text: str) -> str:
    """Return a document without its fenced blocks."""
    return _FENCE.sub("", text)


def _blocks(path: Path) -> Iterator[Block]:
    text = text_of(path)
    for match in _FENCE.finditer(text):
        language, _, info = match["info"].strip().partition(" ")
        before = text[: match.start()]
        yield Block(
            page=path.relative_to(REPOSITORY).as_posix(),
            line=before.count("\n") + 1,
            language=language,
            info=info,
            text=match["body"],
            runs=before.rstrip().endswith(RUNS),
        )
