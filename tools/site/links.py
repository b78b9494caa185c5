"""Links between files of the repository, turned into links between pages of the site."""

import posixpath
import re
from collections.abc import Iterator, Mapping
from itertools import chain, zip_longest
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
DOCS = REPOSITORY / "docs"

FROM_THE_TOP: Mapping[str, str] = {
    "QUICK_START.md": "quick-start.md",
    "INSTALL_DOCKER.md": "install-with-docker.md",
    "SIMULATION.md": "simulating-trouble.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "README.md": "readme.md",
}
"""Documents of the repository's top folder → the page of the site that shows them."""

_LINK = re.compile(r"(!?\[(?:[^\]\[]|\[[^\]]*\])*\]\()\s*<?([^)\s>]+)>?([^)]*\))")
_FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.DOTALL | re.MULTILINE)


def page_of(path: Path) -> str | None:
    """Return the page that shows a file of the repository, None for a folder or a file that is not there."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    name = path.relative_to(REPOSITORY).as_posix()
    if name in FROM_THE_TOP:
        return FROM_THE_TOP[name]
    return f"source/{name}.md" if path.is_file() else None


def file_of(page: str) -> Path:
    """Return the document of the repository that a page shows."""
    for name, shown_as in FROM_THE_TOP.items():
        if page == shown_as:
            return REPOSITORY / name
    return DOCS / page


def rewritten(markdown: str, page: str) -> str:
    """Return a page's text with every link between files as one between pages; a link to a folder becomes its text."""

    def replace(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        path, hash_, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match.group()
        file = (file_of(page).parent / path).resolve()
        leads_to = page_of(file)
        if leads_to is None:
            return before[before.index("[") + 1 : before.rindex("]")]
        return f"{before}{posixpath.relpath(leads_to, posixpath.dirname(page) or '.')}{hash_}{anchor}{after}"

    fences = [fence.group() for fence in _FENCE.finditer(markdown)]
    parts = [_LINK.sub(replace, part) for part in _outside_of_code(markdown)]
    return "".join(chain.from_iterable(zip_longest(parts, fences, fillvalue="")))


def sources_linked(markdown: str, page: str) -> Iterator[tuple[Path, str]]:
    """Yield each file of the repository that a page links to and that is no document, and the name behind the `#`."""
    for part in _outside_of_code(markdown):
        for _, target, _ in _LINK.findall(part):
            path, _, anchor = target.partition("#")
            if path and not re.match(r"[a-z]+:", path):
                file = (file_of(page).parent / path).resolve()
                if (page_of(file) or "").startswith("source/"):
                    yield file, anchor


def _outside_of_code(markdown: str) -> list[str]:
    """Return the parts of a text that are in no fenced block."""
    return _FENCE.sub("\0", markdown).split("\0")
