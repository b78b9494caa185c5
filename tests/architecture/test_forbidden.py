"""What the product never does: unpickle, run text as code, print, or swallow an error."""

import ast
from collections import Counter

import pytest

from tests.architecture.source import Source, aliases, dotted, parse, product

PICKLING_MODULES = {"pickle", "_pickle", "joblib", "cloudpickle", "dill", "marshal", "shelve", "pickletools"}
# Full names. `torch.save` writes a pickle and `torch.load` reads one; weights travel as safetensors.
FORBIDDEN_CALLS = {
    "eval": "runs text as code",
    "exec": "runs text as code",
    "builtins.eval": "runs text as code",
    "builtins.exec": "runs text as code",
    "print": "use structlog, or rich in cli",
    "builtins.print": "use structlog, or rich in cli",
    "torch.load": "unpickles; read safetensors",
    "torch.save": "pickles; write safetensors",
    "torch.jit.load": "runs foreign code",
    "torch.hub.load": "runs foreign code",
    "yaml.load": "builds objects that the text names",
    "numpy.lib.format.read_array": "unpickles unless told not to; use numpy.load",
}
# Module → call → why it is right there.
CALLS_ALLOWED = {
    "client.models.conversion": {
        "torch.save": "a model's owner asks for a file of PyTorch's own form; the product reads none",
    },
}
FORBIDDEN_NAMES = {"PickleType", "read_pickle", "to_pickle"}

# Module → what it guards. Only here may everything be caught, once each, and it is logged there.
BROAD_ALLOWED = {
    "server.problems": "the HTTP edge: an unforeseen error becomes a problem document",
    "server.app": "the HTTP edge, where it is wired",
    "coordinator.worker": "the worker loop: one failed duty must not end the others",
    "cli.main": "the command line: a short message and a non-zero exit",
}
BROAD = {"Exception", "BaseException", "builtins.Exception", "builtins.BaseException"}


def forbidden(source: Source) -> list[str]:
    """Return each forbidden import, call and name."""
    names, wrong = aliases(source), []
    wrong += [
        f"{source.name} imports {name}: no pickle" for name in names.values() if name.split(".")[0] in PICKLING_MODULES
    ]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            name = dotted(node.func, names)
            if name in FORBIDDEN_CALLS and name not in CALLS_ALLOWED.get(source.name, {}):
                wrong.append(f"{source.at(node)} calls {name}: {FORBIDDEN_CALLS[name]}")
            if any(is_open_pickle(keyword) for keyword in node.keywords):
                wrong.append(f"{source.at(node)} passes allow_pickle; only the literal False is fine")
        if isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node).split(".")[-1] in FORBIDDEN_NAMES:
            wrong.append(f"{source.at(node)} uses {ast.unparse(node)}: no pickle")
    return wrong


def is_open_pickle(keyword: ast.keyword) -> bool:
    """Say whether an argument may switch unpickling on."""
    closed = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
    return keyword.arg == "allow_pickle" and not closed


def broad_handlers(source: Source) -> list[str]:
    """Return each place that catches everything, by `except` or by `suppress`."""
    names, wrong = aliases(source), []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(kind is None or dotted(kind, names) in BROAD for kind in caught):
                wrong.append(f"{source.at(node)} catches everything; to undo, use `finally` or `with`")
        elif isinstance(node, ast.Call) and dotted(node.func, names) == "contextlib.suppress":
            wrong += [f"{source.at(node)} suppresses everything" for kind in node.args if dotted(kind, names) in BROAD]
    return wrong


def silent_handlers(source: Source) -> list[str]:
    """Return each handler that only passes, without a comment that says why."""
    lines = source.text.splitlines()
    return [
        f"{source.at(node)} swallows an error; handle it, or say why it means nothing in a comment"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ExceptHandler)
        and all(isinstance(item, ast.Pass) for item in node.body)
        and "#" not in "".join(lines[node.lineno - 1 : node.end_lineno])
    ]


@pytest.mark.parametrize("source", product(), ids=lambda source: source.name)
def test_no_pickle_no_code_from_text_no_print(source: Source) -> None:
    assert forbidden(source) == []


@pytest.mark.parametrize("source", product(), ids=lambda source: source.name)
def test_errors_are_caught_by_name_and_never_swallowed(source: Source) -> None:
    allowed = source.name in BROAD_ALLOWED
    assert broad_handlers(source)[1 if allowed else 0 :] + silent_handlers(source) == []


def test_the_three_edges_have_at_most_one_broad_handler_each() -> None:
    broad = Counter(source.room for source in product() for _ in broad_handlers(source))
    assert broad <= Counter(server=1, coordinator=1, cli=1), broad


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import joblib as j",
        "import marshal",
        "eval('1')",
        "import builtins\nbuiltins.exec('1')",
        "print('x')",
        "import torch\ntorch.load(path, weights_only=True)",
        "import torch as t\nt.save(x, path)",
        "from torch import load as read\nread(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, allow_pickle=flag)",
        "import sqlalchemy as sa\nsa.Column(sa.PickleType)",
        "from sqlalchemy import PickleType\nx = PickleType",
    ],
)
def test_a_forbidden_thing_is_noticed(text: str) -> None:
    assert forbidden(parse(text))


def test_harmless_neighbours_are_left_alone() -> None:
    text = (
        "import re, numpy as np\nre.compile('x')\nnp.load(path, allow_pickle=False)\nmodel.eval()\nconsole.print('x')"
    )
    assert forbidden(parse(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "try: x()\nexcept: y()",
        "try: x()\nexcept Exception: y()",
        "try: x()\nexcept BaseException as error: raise",
        "try: x()\nexcept (ValueError, Exception): y()",
        "try: x()\nexcept* Exception: y()",
        "import builtins as b\ntry: x()\nexcept b.Exception: y()",
        "import contextlib\nwith contextlib.suppress(Exception): x()",
        "from contextlib import suppress\nwith suppress(ValueError, BaseException): x()",
    ],
)
def test_a_broad_handler_is_noticed(text: str) -> None:
    assert len(broad_handlers(parse(text))) == 1


def test_a_swallowed_error_is_noticed_unless_it_says_why() -> None:
    assert silent_handlers(parse("try:\n    x()\nexcept ValueError:\n    pass"))
    assert silent_handlers(parse("try:\n    x()\nexcept ValueError:\n    pass  # it was gone already")) == []
    assert broad_handlers(parse("try:\n    x()\nexcept (OSError, ValueError):\n    y()")) == []
