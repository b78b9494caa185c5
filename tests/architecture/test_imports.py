"""Who may import whom. The table is the architecture; everything else here makes it hold."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.source import PACKAGE, REPOSITORY, ROOT, Source, aliases, dotted, parse, product

FLOOR = {"errors", "clock", "ids"}
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": {"protocol", "client", "simulator", "facade"},
    "errors": set(),
    "clock": set(),
    "ids": set(),
    "protocol": FLOOR,
    "learning": FLOOR,
    "rounds": FLOOR,
    "storage": FLOOR | {"rounds"},
    "coordinator": FLOOR | {"protocol", "learning", "rounds", "storage"},
    "server": FLOOR | {"protocol", "coordinator"},
    "client": FLOOR | {"protocol", "learning"},
    "simulator": FLOOR | {"protocol", "learning", "rounds", "storage", "coordinator", "server", "client"},
    "facade": FLOOR | {"protocol", "learning", "rounds", "storage", "coordinator", "server", "client", "simulator"},
    "cli": FLOOR | {"protocol", "learning", "rounds", "storage", "coordinator", "server", "client", "simulator"},
    "__main__": {"cli"},
}
STANDARD_LIBRARY_ONLY = {"__init__", "__main__", *FLOOR}

# External package → where it may be imported. `client.models*` is any module whose name starts so.
CONFINED: dict[str, tuple[str, ...]] = {
    "fastapi": ("server",),
    "starlette": ("server",),
    "sse_starlette": ("server",),
    "uvicorn": ("server", "cli"),
    "sqlalchemy": ("storage",),
    "alembic": ("storage",),
    "psycopg": ("storage.sql",),
    "obstore": ("storage.object_blobs",),
    "redis": ("coordinator.rate_limiter",),
    "torch": ("client.trainer*", "client.models*", "simulator"),
    "onnx": ("client.models*",),
    "onnxscript": ("client.models*",),
    "httpx2": ("client.api*", "cli"),
    "typer": ("cli",),
    "click": ("cli",),
    "rich": ("cli",),
    "sklearn": ("client.datasets",),
    "PIL": ("client.datasets",),
    "pyarrow": ("client.datasets", "simulator"),
    "tomli_w": ("simulator",),
    "psutil": ("client", "cli"),
    "matplotlib": ("cli.demo*", "simulator"),
    "ray": ("simulator.ray",),
    "limits": ("coordinator",),
    "numba": ("learning.compiled",),
    "xxhash": ("storage.memory_blobs",),
    "prometheus_client": ("coordinator", "server"),
    "opentelemetry": ("protocol.otel",),
    "tomlkit": ("server.dashboard",),
}
# A package that always comes with one that pyproject.toml names.
COMES_WITH = {"starlette": "fastapi", "click": "typer"}
LOADERS = {"importlib.import_module", "__import__", "builtins.__import__", "runpy.run_module", "runpy.run_path"}

TORCH_FREE = (
    "errors",
    "clock",
    "ids",
    "protocol",
    "learning",
    "rounds",
    "storage",
    "coordinator",
    "server",
    "cli",
    "facade",
)
CLIENT_SIDE_LIBRARIES = ("torch", "sklearn", "PIL", "matplotlib", "psutil", "onnx", "onnxscript")


def imported(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Yield every module or name that is imported, whatever the way.

    Raises:
        AssertionError: on a way of importing that hides what is imported.
    """
    names = aliases(source)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.at(node)}: relative import; write it in full"
            for alias in node.names:
                assert alias.name != "*", f"{source.at(node)}: star import; name what is needed"
                yield node, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                assert alias.name != PACKAGE, f"{source.at(node)}: `import {PACKAGE}`; import the module you need"
                yield node, alias.name
        elif isinstance(node, ast.Call) and dotted(node.func, names) in LOADERS:
            target = ast.literal_eval(node.args[0]) if node.args and isinstance(node.args[0], ast.Constant) else None
            assert isinstance(target, str), f"{source.at(node)}: computed import; use a registry or an entry point"
            assert not target.startswith("."), f"{source.at(node)}: relative import; write it in full"
            yield node, target
        elif isinstance(node, ast.Attribute) and dotted(node, names).startswith(f"{PACKAGE}."):
            yield node, dotted(node, names)


def forbidden_rooms(source: Source) -> list[str]:
    """Return each import of a room that this module may not see."""
    assert source.room in MAY_IMPORT, f"{source.name}: room {source.room!r} has no row in the table; give it one"
    allowed = MAY_IMPORT[source.room] | {source.room}
    wrong = []
    for node, name in imported(source):
        parts = name.split(".")
        if parts[0] == PACKAGE and parts[1] not in allowed and parts[1] != "__version__":
            wrong.append(f"{source.at(node)} imports {parts[1]}; {source.room} may import {sorted(allowed)}")
    return wrong


def external(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Yield the top-level name of every imported package that is neither ours nor Python's."""
    for node, name in imported(source):
        top = name.split(".")[0]
        if top != PACKAGE and top not in sys.stdlib_module_names:
            yield node, top


def within(name: str, place: str) -> bool:
    """Say whether a module lies in a place of `CONFINED`."""
    if place.endswith("*"):
        return name.startswith(place[:-1])
    return name == place or name.startswith(f"{place}.")


def strays(source: Source) -> list[str]:
    """Return each external import outside the rooms that the library is confined to."""
    wrong = []
    for node, library in external(source):
        if source.name in STANDARD_LIBRARY_ONLY:
            wrong.append(f"{source.at(node)} imports {library}; {source.name} stands on the standard library alone")
        elif not any(within(source.name, place) for place in CONFINED.get(library, (source.name,))):
            wrong.append(f"{source.at(node)} imports {library}, which is confined to {CONFINED[library]}")
    return wrong


@cache
def owners() -> Mapping[str, list[str]]:
    """Return which distributions each importable name comes from. Slow, so asked once."""
    return packages_distributions()


@cache
def declared() -> set[str]:
    """Return the distributions that pyproject.toml names, in any extra."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return {canonicalize_name(Requirement(line).name) for line in lines}


def undeclared(source: Source) -> list[str]:
    """Return each external import that no dependency of pyproject.toml stands for."""
    wrong = []
    for node, library in external(source):
        if (
            not {canonicalize_name(name) for name in owners().get(COMES_WITH.get(library, library), [library])}
            & declared()
        ):
            wrong.append(f"{source.at(node)} imports {library}, which pyproject.toml does not name")
    return wrong


def import_without_client_libraries(statement: str) -> subprocess.CompletedProcess[str]:
    """Run an import in a fresh interpreter in which the libraries of the client side do not exist."""
    block = f"import sys\nfor name in {CLIENT_SIDE_LIBRARIES!r}: sys.modules[name] = None\n"
    command = [sys.executable, "-c", block + statement]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("source", product(), ids=lambda source: source.name)
def test_imports_go_down_only(source: Source) -> None:
    assert forbidden_rooms(source) == []


@pytest.mark.parametrize("source", product(), ids=lambda source: source.name)
def test_libraries_stay_in_their_rooms_and_are_declared(source: Source) -> None:
    assert strays(source) + undeclared(source) == []


def test_the_table_has_no_cycle() -> None:
    settled: set[str] = set()
    while ready := {room for room, needs in MAY_IMPORT.items() if room not in settled and needs <= settled}:
        settled |= ready
    assert settled == set(MAY_IMPORT), f"cycle among {set(MAY_IMPORT) - settled}"


@pytest.mark.parametrize("room", TORCH_FREE)
def test_the_coordinator_side_works_where_torch_is_not_installed(room: str) -> None:
    modules = [f"{PACKAGE}.{s.name}" for s in product() if s.room == room and "migrations" not in s.name]
    if not modules:
        pytest.skip(f"{room} has no modules yet")
    result = import_without_client_libraries("import " + ", ".join(modules))
    assert result.returncode == 0, result.stderr


def test_a_torch_import_would_be_noticed() -> None:
    assert "torch" in import_without_client_libraries("import torch").stderr


@pytest.mark.parametrize(
    "text",
    [
        "import fed_compute.storage.records",
        "import fed_compute.storage as s",
        "from fed_compute import storage",
        "from fed_compute.storage import records",
        "def f():\n    from fed_compute.storage.records import Row",
        "import fed_compute.errors\nfed_compute.storage.records",
        "import importlib\nimportlib.import_module('fed_compute.storage')",
        "from importlib import import_module as load\nload('fed_compute.storage')",
        "__import__('fed_compute.storage')",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fed_compute.storage import records",
    ],
)
def test_every_way_of_reaching_up_is_noticed(text: str) -> None:
    assert forbidden_rooms(parse(text, "client.client"))
    assert forbidden_rooms(parse(text, "coordinator.pipeline")) == []


@pytest.mark.parametrize(
    "text",
    [
        "from . import storage",
        "from ..storage import records",
        "from fed_compute.errors import *",
        "import fed_compute",
        "import fed_compute as f",
        "import importlib\nimportlib.import_module(name)",
        "import importlib\nimportlib.import_module('.storage', 'fed_compute')",
        "import runpy\nrunpy.run_path(path)",
    ],
)
def test_an_import_that_hides_its_target_is_refused(text: str) -> None:
    with pytest.raises(AssertionError):
        list(imported(parse(text)))


def test_a_room_without_a_row_is_refused() -> None:
    with pytest.raises(AssertionError, match="no row"):
        forbidden_rooms(parse("", "utils.helpers"))


@pytest.mark.parametrize(
    ("library", "place", "stray"),
    [
        ("torch", "client.models.cnn", "learning.aggregation.fedavg"),
        ("torch.nn", "client.trainer_loop", "client.client"),
        ("fastapi", "server.app", "coordinator.pipeline"),
        ("sqlalchemy.orm", "storage.sql.engine", "coordinator.pipeline"),
        ("httpx2", "client.api", "client.client"),
        ("rich.table", "cli.main", "client.logger"),
        ("sklearn.datasets", "client.datasets.digits", "client.datasetsx"),
        ("numpy", "learning.privacy.protector", "errors"),
    ],
)
def test_a_library_outside_its_room_is_noticed(library: str, place: str, stray: str) -> None:
    assert strays(parse(f"def f():\n    import {library}", place)) == []
    assert strays(parse(f"def f():\n    import {library}", stray))


def test_a_library_that_pyproject_does_not_name_is_noticed() -> None:
    assert undeclared(parse("import requests_not_ours"))
    assert undeclared(parse("import numpy, starlette, sse_starlette, PIL, yaml")) == [
        "planted:1 imports yaml, which pyproject.toml does not name"
    ]


def test_every_room_of_the_source_folder_has_a_row() -> None:
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert rooms <= set(MAY_IMPORT)
