"""What a running coordinator says about itself."""

import re
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from prometheus_client.parser import text_string_to_metric_families

from fed_compute.coordinator.settings import CoordinatorSettings
from fed_compute.coordinator.wiring import open_coordinator
from fed_compute.protocol.job import default_job
from fed_compute.server.app import create_app
from fed_compute.server.prometheus import PLAIN_TEXT, exposition
from tools.site.markdown import code, first_line, plain, table
from tools.site.schemas import kind, properties, referred

Operation = dict[str, Any]
_CODE = re.compile(r"`([a-z_]+)`")


@cache
def _answers() -> tuple[dict[str, Any], str]:
    """Return the OpenAPI document and the metrics' text of a new coordinator with one job."""
    with tempfile.TemporaryDirectory() as folder, structlog.testing.capture_logs():
        core = open_coordinator(CoordinatorSettings(data_dir=Path(folder)))
        try:
            core.jobs.create(default_job())
            app = create_app(core)
            text, _ = exposition(app.state.server, accept=PLAIN_TEXT)
            return app.openapi(), text.decode()
        finally:
            core.close()


def operations() -> Iterator[tuple[str, str, Operation]]:
    """Yield (method, path, operation) of each documented call."""
    for path, calls in _answers()[0]["paths"].items():
        for method, operation in calls.items():
            yield method.upper(), path, operation


def metrics_told() -> set[str]:
    """Return the names of what a new coordinator tells Prometheus, those of the library for processes left out."""
    families = text_string_to_metric_families(_answers()[1])
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    return {name for name in names if not name.startswith("process_")}


def endpoints() -> str:
    """Return a section for each call, and one for each message."""
    schemas = _answers()[0]["components"]["schemas"]
    calls = [_call(method, path, operation) for method, path, operation in operations()]
    messages = [_message(name, schema) for name, schema in sorted(schemas.items())]
    return "\n\n".join(["## Calls", *calls, "## Messages", *messages])


def _call(method: str, path: str, operation: Operation) -> str:
    parts = [f"### `{method} {path}`", f"**{operation.get('summary', '')}.** {operation.get('description', '')}"]
    given = operation.get("parameters", [])
    if given:
        rows = [
            (code(one["name"]), one["in"], kind(one.get("schema", {})), plain(one.get("description"))) for one in given
        ]
        parts.append(table(("parameter", "in", "values", "meaning"), rows))
    if content := operation.get("requestBody", {}).get("content", {}):
        parts.append("Takes " + ", or ".join(f"`{media}`{_of(body)}" for media, body in content.items()) + ".")
    rows = [
        (
            status,
            _CODE.sub(r"[`\1`](error-codes.md#\1)", answer["description"])
            if status >= "400"
            else answer["description"],
            ", ".join(f"`{media}`{_of(b)}" for media, b in answer.get("content", {}).items()),
        )
        for status, answer in operation["responses"].items()
    ]
    parts.append(table(("status", "means", "body"), rows))
    return "\n\n".join(parts)


def _of(body: dict[str, Any]) -> str:
    schema = body.get("schema", {})
    if "title" in schema and "$ref" not in schema:
        return f" ({code(schema['title'])})"
    return f" ([{referred(schema)}](#{referred(schema).lower()}))" if "$ref" in schema else ""


def _message(name: str, schema: dict[str, Any]) -> str:
    rows = [
        (code(field), kind(inner), "yes" if required else "", plain(inner.get("description")))
        for field, inner, required in properties(schema)
    ]
    fields = table(("field", "values", "always", "meaning"), rows) if rows else kind(schema)
    return f"### {name}\n\n{first_line(schema.get('description'))}\n\n{fields}"
