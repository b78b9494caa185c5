"""What the OpenAPI document says beyond the routes' own types: bodies read by hand, and every refusal by its code."""

from collections import defaultdict
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from fed_compute import errors
from fed_compute.errors import FedComputeError
from fed_compute.protocol.messages import Problem
from fed_compute.server.examples import add_examples
from fed_compute.server.problems import PROBLEM_JSON

_COMPONENTS = "#/components/schemas/{model}"

_EVERYWHERE = (
    errors.RequestInvalid,
    errors.ProtocolUnsupported,
    errors.RateLimited,
    errors.RateStoreUnreachable,
    errors.Broken,
)

RECORDS = (errors.StorageBusy, errors.StorageUnreachable, errors.DiskFailed)
"""What a call that reads or writes records may be refused with."""

BLOBS = (errors.BlobStoreUnreachable,)
"""The same for one that reads or writes models or updates."""

DISK = (errors.DiskFull,)
"""The same for one that writes."""

CLIENT = (errors.AuthenticationFailed, errors.ClientBanned, errors.ClientPending)
"""The same for one that needs a client's key."""

STAFF = (*RECORDS, *CLIENT, errors.PermissionDenied)
"""The same for one that needs an operator's or an observer's key."""

BODY = (errors.ContentTypeUnsupported, errors.BodyTooLarge, errors.BodyStalled, errors.BodyTooSlow)
"""The same for one that takes a body."""

ROUND = (
    errors.RoundOver,
    errors.LeaseExpired,
    errors.UpdateTooStale,
    errors.BufferBusy,
    errors.UpdateConflict,
    errors.ClientNotFound,
)
UPDATE = (
    errors.UpdateMalformed,
    errors.UpdateTensorMismatch,
    errors.UpdateShapeMismatch,
    errors.UpdateNotFinite,
    errors.UpdateAllZero,
    errors.UpdateNormTooLarge,
    errors.UpdateIsModel,
    errors.UpdateCopied,
    errors.SampleCountInvalid,
    errors.StepCountInvalid,
    errors.LossInvalid,
    errors.TooManyUploads,
    errors.UploadsFull,
)
"""What an update may be refused with, in whatever form it comes."""

UPLOAD = (
    errors.UpdateEncodingMismatch,
    errors.TaskNotFound,
    errors.LengthRequired,
    errors.DigestMissing,
    errors.DigestMismatch,
    errors.UploadBusy,
)
"""What a binary update, or a piece of one, may be refused with beside that."""


def refusals(*kinds: type[FedComputeError] | int) -> dict[int | str, dict[str, Any]]:
    """Return the documented errors of a route, by status: these, and those that every route may give.

    A bare status documents a problem without naming its codes.
    """
    by_status: dict[int, list[type[FedComputeError]]] = defaultdict(list)
    for kind in (*kinds, *_EVERYWHERE):
        if isinstance(kind, int):
            by_status.setdefault(kind, [])
        elif kind not in by_status[kind.status]:
            by_status[kind.status].append(kind)
    return {status: _documented(status, by_status[status]) for status in sorted(by_status)}


def _documented(status: int, kinds: list[type[FedComputeError]]) -> dict[str, Any]:
    phrase = HTTPStatus(status).phrase
    schema: dict[str, Any] = {"$ref": _COMPONENTS.format(model=Problem.__name__)}
    told: dict[str, Any] = {"description": phrase}
    codes = sorted(kind.code for kind in kinds)
    if codes and status != errors.Broken.status:  # whatever breaks inside has a code of its own
        told["description"] = f"{phrase}: {', '.join(f'`{code}`' for code in codes)}"
        schema = {"allOf": [schema, {"type": "object", "properties": {"code": {"enum": codes}}}]}
    if kinds and all(issubclass(kind, errors.NotNow) for kind in kinds):
        told["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return {**told, "content": {PROBLEM_JSON: {"schema": schema}}}


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


def documented_progress() -> dict[str, Any]:
    """Return the documentation of the headers that tell how much of an update has arrived."""
    return {
        "Upload-Offset": {"description": "Bytes that are stored.", "schema": {"type": "integer", "minimum": 0}},
        "Upload-Complete": {"description": "`?1` once the update is accepted.", "schema": {"enum": ["?0", "?1"]}},
    }


def describe_problems(app: FastAPI) -> None:
    """Let the application's OpenAPI document know what a problem is, name hand-read bodies, and show examples."""
    original: Callable[[], dict[str, Any]] = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = original()
            schemas = document["components"]["schemas"]
            schemas[Problem.__name__] = Problem.model_json_schema(ref_template=_COMPONENTS)
            for unused in ("HTTPValidationError", "ValidationError"):  # the framework's own form of a refusal
                schemas.pop(unused, None)
            for operation in _operations(document):
                _hoist_definitions(operation, schemas)
            add_examples(document)
        return original()

    app.openapi = openapi  # type: ignore[method-assign]


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def _hoist_definitions(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schemas.update(content["schema"].pop("$defs", {}))
