"""Holds answers against the service's own OpenAPI document: the part of JSON Schema that the document uses, no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

Json = Mapping[str, Any]
_TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
_CHECKED = {"type", "properties", "required", "items", "anyOf", "$ref", "const", "enum", "additionalProperties"}
_CHECKED |= {"format", "minimum", "exclusiveMinimum"}
_SAID = {"title", "description", "default", "maxLength", "minLength", "maxItems", "pattern", "maximum"}


def faults(document: Json, path: str, method: str, status: int, body: Any) -> list[str]:
    """What is wrong with an answer of this operation; empty if nothing is."""
    responses = document["paths"][path][method.lower()]["responses"]
    if str(status) not in responses:
        return [f"{method} {path} does not say that it may answer {status}"]
    (content,) = responses[str(status)]["content"].values()
    return list(differences(document, content["schema"], body, "body"))


def differences(document: Json, schema: Json, value: Any, where: str) -> Iterator[str]:
    """Where `value` is not what `schema` says. A property that the schema does not name is a difference, too."""
    unknown = set(schema) - _CHECKED - _SAID
    assert not unknown, f"this check does not know {unknown}"
    if "$ref" in schema:
        yield from differences(document, resolve(document, schema["$ref"]), value, where)
    elif "anyOf" in schema:
        found = [list(differences(document, variant, value, where)) for variant in schema["anyOf"]]
        if all(found):
            yield min(found, key=len)[0]
    else:
        yield from _plain(document, schema, value, where)


def _plain(document: Json, schema: Json, value: Any, where: str) -> Iterator[str]:
    kind = schema.get("type")
    if kind and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind in ("integer", "number"))):
        yield f"{where} is {value!r}, not of type {kind}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{where} is {value!r}, not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where} is {value!r}, not one of {schema['enum']}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{where} is {value!r}, below {schema['minimum']}"
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        yield f"{where} is {value!r}, not above {schema['exclusiveMinimum']}"
    if schema.get("format") == "date-time" and datetime.fromisoformat(value).tzinfo is None:
        yield f"{where} has no time zone"
    if kind == "array":
        for index, item in enumerate(value):
            yield from differences(document, schema.get("items", {}), item, f"{where}[{index}]")
    if kind == "object":
        yield from _object(document, schema, value, where)


def _object(document: Json, schema: Json, value: Json, where: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", not properties)
    for name in set(schema.get("required", ())) - set(value):
        yield f"{where}.{name} is missing"
    for name, item in value.items():
        if name in properties:
            yield from differences(document, properties[name], item, f"{where}.{name}")
        elif others is False:
            yield f"{where}.{name} is not in the document"
        elif isinstance(others, dict):
            yield from differences(document, others, item, f"{where}.{name}")


def resolve(document: Json, reference: str) -> Json:
    """The schema that a `$ref` names."""
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    schema: Json = found
    return schema
