"""What mkdocs calls while it builds the site: see `hooks` in mkdocs.yml."""

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tools.site import catalogue, commands, server, settings
from tools.site.links import DOCS, FROM_THE_TOP, REPOSITORY, rewritten, sources_linked

GENERATED: Mapping[str, Callable[[], str]] = {
    "client-settings": settings.client_settings,
    "command-line": commands.command_line,
    "coordinator-settings": settings.coordinator_settings,
    "endpoints": server.endpoints,
    "error-codes": catalogue.error_codes,
    "event-kinds": catalogue.event_kinds,
    "fleet-file": settings.fleet_file,
    "job-file": settings.job_file,
    "metrics": catalogue.metrics,
}
"""What `<!-- generated: NAME -->` in a page stands for."""

_MARK = re.compile(r"<!-- generated: ([a-z-]+) -->")


COMPLETED: Mapping[str, str] = {
    "How to": "how-to",
    "Reference": "reference",
    "Explanation": "explanation",
    "Decisions": "decisions",
}
"""Sections of the navigation → the folder whose other pages follow those that mkdocs.yml puts in order."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages to the navigation that mkdocs.yml does not put into an order of its own."""
    for section in config.nav or ():
        for title, pages in section.items():
            if title in COMPLETED:
                named = {page for entry in pages for page in ([entry] if isinstance(entry, str) else entry.values())}
                found = (path.relative_to(DOCS).as_posix() for path in sorted((DOCS / COMPLETED[title]).glob("*.md")))
                pages += [page for page in found if page not in named]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the documents of the repository's top folder, and every file that a page links to."""
    for name, page in FROM_THE_TOP.items():
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    linked: dict[Path, set[str]] = defaultdict(set)
    for file in files.documentation_pages():
        for path, name in sources_linked(file.content_string, file.src_uri):
            linked[path].add(name)
    for path, names in sorted(linked.items()):
        page = f"source/{path.relative_to(REPOSITORY).as_posix()}.md"
        files.append(File.generated(config, page, content=source_page(path, names)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Fill in what is made from the code, and turn links between files into links between pages."""
    uri = page.file.src_uri
    if uri.startswith("source/"):
        return markdown
    return filled_in(rewritten(markdown, uri))


def filled_in(markdown: str) -> str:
    """Return a page with each mark replaced by what it stands for."""
    return _MARK.sub(lambda mark: GENERATED[mark.group(1)](), markdown)


def source_page(path: Path, names: Set[str]) -> str:
    """Return a page that shows the named functions of a file, or all of it where a link names none."""
    text, title = path.read_text(encoding="utf-8"), path.relative_to(REPOSITORY).as_posix()
    parts = ["---\nsearch:\n  exclude: true\n---", f"# {title}"]
    if "" in names:
        parts.append(_fenced(text, path.suffix[1:]))
    for name, function in _functions(text) if names - {""} else ():
        if name in names:
            parts += [f"## {name} {{ #{name} }}", _fenced(function, "python")]
    return "\n\n".join(parts) + "\n"


def _functions(text: str) -> Iterator[tuple[str, str]]:
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield node.name, "\n".join(lines[first - 1 : node.end_lineno])


def _fenced(text: str, language: str) -> str:
    fence = "`" * (3 + max((len(run) for run in re.findall(r"`{3,}", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
