"""Which journal entries the code writes, read from its syntax.

An entry is written by `journal.append(…)`, or made by `line(…)`, `task_line(…)` or `task_lines(…)` of the journal's
module; straight, or through a function.
"""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from tests.architecture.source import Function, Source, aliases, dotted, functions, product

WRITERS = ("journal.append", "journal.line", "journal.task_line", "journal.task_lines")
COLUMNS = {"at", "job_id", "round_id", "client_id", "task_id"}
"""What `journal.append` takes beside an entry's own fields."""


@dataclass(frozen=True)
class Written:
    """One place that writes an entry: `kind` may hold a `*` for what is only known as the program runs."""

    kind: str
    fields: frozenset[str]
    is_open: bool
    """Whether it passes on fields that the syntax does not show."""
    where: str


@dataclass(frozen=True)
class _Emitter:
    """A function that writes an entry of a kind that its caller names, with the fields that it adds itself."""

    function: Function
    parameter: str
    fields: frozenset[str]
    is_open: bool


@cache
def entries_written() -> tuple[Written, ...]:
    """Return every entry that the product writes.

    Raises:
        AssertionError: if the kind of one cannot be read from the code.
    """
    return tuple(one for source in product() for one in of_module(source))


def of_module(source: Source) -> Iterator[Written]:
    """Yield the entries that one module writes, through functions of its own too."""
    emitters: list[_Emitter] = []
    names_of = aliases(source)
    for function, call in _calls(source):
        if dotted(call.func, names_of).endswith(WRITERS):
            yield from _entry(source, function, call, call.args[0], _own(call, frozenset()), emitters)
    for emitter in emitters:  # grows while functions call functions
        names = [a.arg for a in (*emitter.function.args.args, *emitter.function.args.kwonlyargs)]
        for function, call in _calls(source):
            if ast.unparse(call.func).split(".")[-1] == emitter.function.name:
                kind = _argument(call, names, emitter.parameter)
                fields, is_open = _own(call, frozenset(names))
                found = (emitter.fields | fields, is_open or (emitter.is_open and not _takes_fields(emitter.function)))
                yield from _entry(source, function, call, kind, found, emitters)


def _calls(source: Source) -> Iterator[tuple[Function, ast.Call]]:
    for function in functions(source.tree):
        yield from ((function, node) for node in ast.walk(function) if isinstance(node, ast.Call))


def _takes_fields(function: Function) -> bool:
    """Say whether what a function passes on is what its callers show."""
    return function.args.kwarg is not None


def _own(call: ast.Call, parameters: frozenset[str]) -> tuple[frozenset[str], bool]:
    names = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
    return frozenset(names - COLUMNS - parameters), any(keyword.arg is None for keyword in call.keywords)


def _argument(call: ast.Call, names: Sequence[str], wanted: str) -> ast.expr:
    for keyword in call.keywords:
        if keyword.arg == wanted:
            return keyword.value
    return call.args[names.index(wanted) - (names[0] == "self")]


def _entry(
    source: Source,
    function: Function,
    call: ast.Call,
    kind: ast.expr,
    found: tuple[frozenset[str], bool],
    emitters: list[_Emitter],
) -> Iterator[Written]:
    fields, is_open = found
    match kind:
        case ast.Constant(value=str(name)):
            yield Written(name, fields, is_open, source.at(call))
        case ast.JoinedStr(values=parts):
            name = "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts)
            yield Written(name, fields, is_open, source.at(call))
        case ast.Name(id=parameter) if parameter in {a.arg for a in (*function.args.args, *function.args.kwonlyargs)}:
            emitters.append(_Emitter(function, parameter, fields, is_open))
        case _:
            raise AssertionError(f"{source.at(call)}: no reader can tell the kind of entry from `{ast.unparse(kind)}`")
