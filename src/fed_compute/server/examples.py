"""Examples in the OpenAPI document: what a real coordinator was sent and answered, and one problem for each code.

`examples.json` is written by `make examples`, which plays a small run against a coordinator.
"""

import inspect
import json
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from fed_compute import errors
from fed_compute.errors import FedComputeError
from fed_compute.server.problems import PROBLEM_JSON, TYPE_PREFIX

RECORDED = "examples.json"
_COMPONENTS = "#/components/examples/{code}"


def add_examples(document: dict[str, Any]) -> None:
    """Give each call of an OpenAPI document the examples that are known of it, in place."""
    document["components"]["examples"] = {kind.code: problem_example(kind) for kind in error_kinds()}
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            _add_recorded(call, recorded().get(f"{method.upper()} {path}", {}))
            for response in call["responses"].values():
                _add_problems(response)


@cache
def recorded() -> dict[str, Any]:
    """Return what was recorded, by method and path."""
    known: dict[str, Any] = json.loads((files("fed_compute.server") / RECORDED).read_text(encoding="utf-8"))
    return known


def error_kinds() -> Iterator[type[FedComputeError]]:
    """Yield every error that has a code of its own, by code."""
    known = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, FedComputeError)]
    yield from sorted((kind for kind in known if "code" in vars(kind)), key=lambda kind: kind.code)


def problem_example(kind: type[FedComputeError]) -> dict[str, Any]:
    """Return a problem document of an error, as an example. Real ones say what was found and what was wanted."""
    meaning = inspect.getdoc(kind) or ""
    return {
        "summary": meaning.partition("\n")[0],
        "value": {
            "type": f"{TYPE_PREFIX}{kind.code}",
            "title": HTTPStatus(kind.status).phrase,
            "status": kind.status,
            "detail": meaning.partition("\n")[0],
            "code": kind.code,
        },
    }


def _add_recorded(call: dict[str, Any], known: dict[str, Any]) -> None:
    for parameter in call.get("parameters", ()):
        if parameter["name"] in known.get("parameters", {}):
            parameter["example"] = known["parameters"][parameter["name"]]
    contents = [(call.get("requestBody", {}), known.get("request", {}))]
    contents += [(call["responses"].get(status, {}), bodies) for status, bodies in known.get("responses", {}).items()]
    for described, bodies in contents:
        for media, body in bodies.items():
            if media in described.get("content", {}):
                described["content"][media]["example"] = body


def _add_problems(response: dict[str, Any]) -> None:
    problem = response.get("content", {}).get(PROBLEM_JSON)
    if problem is not None:
        codes = _codes_of(problem["schema"]) or [errors.Broken.code]
        problem["examples"] = {code: {"$ref": _COMPONENTS.format(code=code)} for code in codes}


def _codes_of(schema: dict[str, Any]) -> list[str]:
    narrowed = [part["properties"]["code"]["enum"] for part in schema.get("allOf", ()) if "properties" in part]
    return [code for codes in narrowed for code in codes]
