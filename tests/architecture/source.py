"""The product's source as syntax trees, and small questions about them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
PACKAGE = "fed_compute"
ROOT = REPOSITORY / "src" / PACKAGE

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Source:
    """One module: its dotted name below the package (`client.trainer`, `__init__`), and its tree."""

    name: str
    text: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The top-level module or package it belongs to."""
        return self.name.split(".")[0]

    def at(self, node: ast.AST) -> str:
        """Say where a node is, for a failure's text."""
        return f"{self.name}:{getattr(node, 'lineno', 1)}"


def parse(text: str, name: str = "planted") -> Source:
    """Return source text as a module of the given name."""
    return Source(name, text, ast.parse(text))


def module_name(path: Path) -> str:
    """Return the dotted name below the package: `server/__init__.py` is `server`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


@cache
def product() -> tuple[Source, ...]:
    """Return every module of the product. Not empty, or every rule would hold for nothing."""
    sources = tuple(parse(path.read_text(encoding="utf-8"), module_name(path)) for path in sorted(ROOT.rglob("*.py")))
    assert len(sources) >= 5, f"only {len(sources)} modules found under {ROOT}"
    return sources


def aliases(source: Source) -> dict[str, str]:
    """Return what each imported name stands for: `import numpy as np` gives np → numpy."""
    names: dict[str, str] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """Return the full name of `a.b.c`, imports followed; empty for anything else."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def functions(tree: ast.AST) -> Iterator[Function]:
    """Yield every function and method, inner ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def classes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    """Yield every class, inner ones too."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def docstring_lines(node: Function | ast.ClassDef) -> int:
    """Return how many lines the docstring takes."""
    first = node.body[0]
    has_docstring = ast.get_docstring(node, clean=False) is not None
    return (first.end_lineno or first.lineno) - first.lineno + 1 if has_docstring else 0


def num_lines(node: ast.stmt) -> int:
    """Return how many lines a statement spans."""
    return (node.end_lineno or node.lineno) - node.lineno + 1
