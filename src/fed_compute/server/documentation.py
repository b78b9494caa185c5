"""What the OpenAPI document says beyond the routes' own types: bodies read by hand, problems, refusals."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from fed_compute.protocol.messages import Problem
from fed_compute.server.problems import PROBLEM_JSON

_COMPONENTS = "#/components/schemas/{model}"


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documented errors of a route: these statuses, and 422, 426 and 429, which every route may give."""
    found = sorted({*statuses, 422, 426, 429})
    return {status: {"model": Problem, "description": HTTPStatus(status).phrase} for status in found}


def takes_json(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Return the documentation of a JSON body that the route reads by hand."""
    return takes({"application/json": model.model_json_schema(ref_template=_COMPONENTS)}, required=required)


def takes(schemas: dict[str, dict[str, Any]], *, required: bool = True) -> dict[str, Any]:
    """Return the documentation of a body by media type."""
    content = {kind: {"schema": schema} for kind, schema in schemas.items()}
    return {"requestBody": {"required": required, "content": content}}


def binary() -> dict[str, Any]:
    """Return the schema of raw bytes."""
    return {"type": "string", "format": "binary"}


def describe_problems(app: FastAPI) -> None:
    """Let the application's OpenAPI document name problems by their media type and hand-read bodies by name."""
    original: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = original()
            for operation in _operations(document):
                _name_problems(operation)
                _hoist_definitions(operation, document)
        return original()

    app.openapi = openapi  # type: ignore[method-assign]


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def _name_problems(operation: dict[str, Any]) -> None:
    for status, response in operation["responses"].items():
        if status.isdecimal() and int(status) >= 400 and "application/json" in response.get("content", {}):
            response["content"] = {PROBLEM_JSON: response["content"]["application/json"]}


def _hoist_definitions(operation: dict[str, Any], document: dict[str, Any]) -> None:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        definitions = content["schema"].pop("$defs", {})
        document["components"]["schemas"].update(definitions)
