"""An example of what a JSON schema describes: the simulated answer to a request with `response_format`.

Knows the part of JSON schema that pydantic writes. A keyword that it does not know is ignored, as the vendor's model
may do as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 12
"""Schemas may be recursive: deeper down, optional parts are left out and lists stay empty."""


def example(schema: Mapping[str, Any], text: str) -> Any:
    """A value that fits the schema. `text`: what free strings say, cut to the allowed length."""
    return _value(schema, schema, text, 0)


def _value(schema: Mapping[str, Any], root: Mapping[str, Any], text: str, depth: int) -> Any:
    schema = _resolved(schema, root)
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if options := schema.get("enum"):
        return options[0]
    match _kind(schema):
        case "object":
            return _object(schema, root, text, depth)
        case "array":
            return _array(schema, root, text, depth)
        case "string":
            return _string(schema, text)
        case "integer" | "number" as kind:
            return _number(schema, whole=kind == "integer")
        case "boolean":
            return False
    return None


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema without references and alternatives: the first alternative that is not null."""
    for _ in range(MAX_DEPTH):
        if isinstance(reference := schema.get("$ref"), str) and reference.startswith("#/"):
            found: Any = root
            for part in reference[2:].split("/"):
                found = found.get(part, {}) if isinstance(found, dict) else {}
            schema = found
        elif options := [one for name in ("anyOf", "oneOf", "allOf") for one in schema.get(name, ())]:
            schema = next((one for one in options if one.get("type") != "null"), options[0])
        else:
            break
    return schema


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    return str(kind) if kind else "object" if "properties" in schema else "string"


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], text: str, depth: int) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties", {})
    wanted = schema.get("required", ()) if depth >= MAX_DEPTH // 2 else properties
    return {name: _value(properties.get(name, {}), root, text, depth + 1) for name in wanted if depth < MAX_DEPTH}


def _array(schema: Mapping[str, Any], root: Mapping[str, Any], text: str, depth: int) -> list[Any]:
    count = int(schema.get("minItems", 0)) or (1 if depth < MAX_DEPTH // 2 and "items" in schema else 0)
    return [
        _value(schema.get("items", {}), root, text, depth + 1)
        for _ in range(min(count, 100) if depth < MAX_DEPTH else 0)
    ]


def _string(schema: Mapping[str, Any], text: str) -> str:
    shortest, longest = int(schema.get("minLength", 0)), schema.get("maxLength")
    return text.ljust(shortest, ".")[: None if longest is None else int(longest)]


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    value = 0 if least is None else least + ("exclusiveMinimum" in schema)
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    if most is not None and value > most:
        value = most - ("exclusiveMaximum" in schema) if least is None else (least + most) / 2
    return int(value) if whole else float(value)
