"""JSON schemas, as pydantic and the OpenAPI document write them, in words."""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_LIMITS = {
    "minimum": "from {}",
    "exclusiveMinimum": "above {}",
    "maximum": "to {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {}",
}
_FORMATS = {"path": "path", "password": "secret", "ipv4network": "network", "ipv6network": "network"}


def kind(schema: Schema, definitions: Mapping[str, Schema] | None = None) -> str:
    """Return what a schema allows, such as `integer from 1 to 100` or one of the words themselves.

    What it refers to is told if it is among the `definitions`, and else linked, as a message of the API.
    """
    if "$ref" in schema and definitions and referred(schema) in definitions:
        return kind(definitions[referred(schema)])
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(
            dict.fromkeys(kind(choice, definitions) for choice in choices if choice.get("type") != "null")
        )
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "$ref" in schema:
        return f"[{referred(schema)}](#{referred(schema).lower()})"
    if schema.get("type") == "array":
        inner = kind(schema["items"], definitions) if "items" in schema else "anything"
        return f"list of {inner}{_limits(schema)}"
    return f"{_FORMATS.get(schema.get('format', ''), schema.get('type', 'anything'))}{_limits(schema)}"


def referred(schema: Schema) -> str:
    """Return the name of the schema that a reference leads to."""
    return str(schema["$ref"]).rpartition("/")[2]


def properties(schema: Schema) -> Iterator[tuple[str, Schema, bool]]:
    """Yield (name, schema, whether it must be given) of an object's fields."""
    required = set(schema.get("required", ()))
    for name, inner in schema.get("properties", {}).items():
        yield name, inner, name in required


def _limits(schema: Schema) -> str:
    told = [text.format(f"{schema[key]:g}" if isinstance(schema[key], float) else schema[key])
            for key, text in _LIMITS.items() if key in schema]  # fmt: skip
    return f" {' '.join(told)}" if told else ""
