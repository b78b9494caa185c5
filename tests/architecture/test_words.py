"""What the product says about itself: docstrings, public names, error codes."""

import ast
import inspect
import re
from itertools import pairwise

import pytest

from fed_compute import errors
from tests.architecture.source import Source, parse, product

ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.FedComputeError) and kind.__module__ == errors.__name__
]
HTTP_ERROR = range(400, 600)


def undocumented(source: Source) -> list[str]:
    """Return the module and each public top-level class and function that has no docstring."""
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [n for n in source.tree.body if isinstance(n, named) and not n.name.startswith("_")]
    missing = [f"{source.at(node)} {node.name}" for node in public if not ast.get_docstring(node)]
    if source.tree.body and not ast.get_docstring(source.tree):
        missing.append(f"{source.name}: the module")
    return missing


def unsorted_exports(source: Source) -> list[str]:
    """Return the names of `__all__` that are out of order or named twice."""
    wrong = []
    for node in source.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            wrong += [
                f"{source.at(node)} {after!r} after {before!r}" for before, after in pairwise(names) if after <= before
            ]
    return wrong


@pytest.mark.parametrize("source", product(), ids=lambda source: source.name)
def test_every_public_thing_says_what_it_is(source: Source) -> None:
    assert undocumented(source) == []


@pytest.mark.parametrize("source", product(), ids=lambda source: source.name)
def test_exported_names_are_sorted(source: Source) -> None:
    assert unsorted_exports(source) == []


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_has_its_own_code_status_and_sentence(kind: type[errors.FedComputeError]) -> None:
    """Clients decide by the code, so it is public and never shared or inherited."""
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.__dict__.get("code", "")), f"{kind.__name__} has no code of its own"
    assert [other.__name__ for other in ERRORS if other.code == kind.code] == [kind.__name__]
    assert kind.status in HTTP_ERROR
    assert kind.__dict__.get("__doc__"), f"{kind.__name__} says nothing"


def test_every_error_belongs_to_a_branch() -> None:
    """The branch tells a caller what to do: change it, wait, ask the user, or look for the fault here."""
    branches = (errors.Refused, errors.NotNow, errors.Misuse, errors.Broken)
    assert [k.__name__ for k in ERRORS if k is not errors.FedComputeError and not issubclass(k, branches)] == []


def test_a_missing_docstring_is_noticed() -> None:
    text = '"""Module."""\ndef a(): ...\nclass B: ...\nasync def c(): ...\ndef _d(): ...\ndef e():\n    """Do."""'
    assert undocumented(parse(text)) == ["planted:2 a", "planted:3 B", "planted:4 c"]
    assert undocumented(parse("x = 1")) == ["planted: the module"]


def test_an_unsorted_export_is_noticed() -> None:
    assert unsorted_exports(parse('__all__ = ["a", "b"]')) == []
    assert unsorted_exports(parse('__all__ = ["b", "a"]'))
    assert unsorted_exports(parse('__all__ = ["a", "a"]'))
