"""The OpenAPI 3.1 document, made from the routes and from the models that check requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from importlib.metadata import version
from inspect import cleandoc
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from . import examples
from .errors import PROBLEM, TRACE_HEADER
from .models import Answer, ErrorAnswer
from .operation import Operation, needs_fields
from .page import Page

METHODS = ("get", "put", "post", "delete")
ALWAYS = (400, 421, 422, 500)
UNLESS_OPEN = (401, 404, 429, 503)
WITH_BODY = (408, 413)
REFERENCE = "#/components/schemas/{model}"
PLACES = {"path": "path", "query": "query", "headers": "header"}
HEADER_NAMES = {"x-operator": "X-Operator", "last-event-id": "Last-Event-ID"}

Json = dict[str, Any]


def document_view(routes: Mapping[str, type[Page]]) -> type[Page]:
    """The view that serves the document of these routes."""
    body = orjson.dumps(document(routes))

    class DocumentView(Page):
        """GET /openapi.json: this document."""

        async def get(self, request: web.Request) -> web.Response:
            return web.Response(body=body, content_type="application/json", charset="utf-8")

    return DocumentView


def document(routes: Mapping[str, type[Page]]) -> Json:
    """The document as a JSON object."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "vision_app", "version": version("vision-app"), "description": _ABOUT},
        "paths": {path: _path_item(path, view) for path, view in routes.items()},
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": _TOKENS}},
        },
    }


_ABOUT = f"Every answer carries a trace id: that of the request's {TRACE_HEADER} header, else a new one."
_TOKENS = "One of VISION_API_TOKENS. Without such a setting the API is open, on loopback only."


def operations(view: type[Page]) -> Iterator[tuple[str, Operation]]:
    """The declared methods of a view, in a fixed order."""
    for method in METHODS:
        declared = getattr(getattr(view, method), "operation", None)
        if declared is not None:
            yield method, declared


def _path_item(path: str, view: type[Page]) -> Json:
    return {method: _operation(path, method, view, declared) for method, declared in operations(view)}


def _operation(path: str, method: str, view: type[Page], declared: Operation) -> Json:
    operation_id = f"{method}{view.__name__.removesuffix('View')}"
    item: Json = {
        "operationId": operation_id,
        "summary": declared.summary,
        "description": cleandoc(view.__doc__ or ""),
        "tags": [_tag(path)],
        "parameters": [*_parameters(declared), _TRACE_PARAMETER],
        "responses": _responses(declared, operation_id),
        "security": [] if declared.open else [{"bearer": []}, {}],
    }
    if "body" in declared.takes:
        model = declared.takes["body"]
        schema = {"$ref": REFERENCE.format(model=model.__name__)}
        content = {"schema": schema, "example": examples.OF_MODEL[model.__name__]}
        item["requestBody"] = {"required": needs_fields(model), "content": {"application/json": content}}
    return item


def _tag(path: str) -> str:
    parts = path.strip("/").split("/")
    return parts[2] if parts[:2] == ["api", "v1"] else "health"


_TRACE_PARAMETER: Json = {
    "name": TRACE_HEADER,
    "in": "header",
    "required": False,
    "description": "the trace id of the answer and of the log; replaced if it is not 1 to 128 printable characters",
    "schema": {"type": "string"},
}


def _parameters(declared: Operation) -> Iterator[Json]:
    for place, where in PLACES.items():
        model = declared.takes.get(place)  # type: ignore[call-overload]  # of a TypedDict, by a variable
        if model is None:
            continue
        schema = model.model_json_schema()
        for name, shape in schema["properties"].items():
            described = {key: value for key, value in _given(shape).items() if key not in ("title", "description")}
            shown = HEADER_NAMES.get(name, name)
            yield {
                "name": shown,
                "in": where,
                "required": where == "path" or name in schema.get("required", ()),
                **({"description": shape["description"]} if "description" in shape else {}),
                "schema": described,
                **({"example": examples.PARAMETERS[shown]} if shown in examples.PARAMETERS else {}),
            }


def _given(shape: Json) -> Json:
    """The schema of a parameter without its null: `required` says that the parameter may be left out."""
    values = [variant for variant in shape.get("anyOf", ()) if variant.get("type") != "null"]
    return values[0] if len(values) == 1 else shape


def _responses(declared: Operation, operation_id: str) -> Json:
    statuses = {*declared.errors, *ALWAYS, *(() if declared.open else UNLESS_OPEN)}
    statuses |= set(WITH_BODY) if "body" in declared.takes else set()
    answers: dict[int, type[Answer]] = {**dict.fromkeys(statuses, ErrorAnswer), **declared.answers}
    made = {status: _response(status, model, operation_id) for status, model in answers.items()}
    made |= {status: _file(status, kinds) for status, kinds in declared.files.items()}
    return {str(status): made[status] for status in sorted(made)}


def _response(status: int, model: type[Answer], operation_id: str) -> Json:
    example = examples.answer(model.__name__, status, operation_id)
    kind = PROBLEM if model is ErrorAnswer else "application/json"
    return {
        "description": cleandoc(model.__doc__ or "") if status < 400 and model.__doc__ else HTTPStatus(status).phrase,
        "headers": {TRACE_HEADER: {"schema": {"type": "string"}}},
        "content": {kind: {"schema": {"$ref": REFERENCE.format(model=model.__name__)}, "example": example}},
    }


def _file(status: int, kinds: Sequence[str]) -> Json:
    """An answer that is not JSON."""
    described: Json = {
        "description": HTTPStatus(status).phrase,
        "headers": {TRACE_HEADER: {"schema": {"type": "string"}}},
    }
    return {**described, "content": {kind: _content(kind) for kind in kinds}} if kinds else described


def _content(kind: str) -> Json:
    """A text or a file; a picture has no example."""
    example = {"example": examples.FILES[kind]} if kind in examples.FILES else {}
    return {"schema": {"type": "string"}, **example}


def _schemas(routes: Mapping[str, type[Page]]) -> Json:
    declared = [declared for view in routes.values() for _, declared in operations(view)]
    answers: set[type[BaseModel]] = {model for one in declared for model in one.answers.values()} | {ErrorAnswer}
    bodies: set[type[BaseModel]] = {one.takes["body"] for one in declared if "body" in one.takes}
    _, schemas = models_json_schema(
        [*((model, "serialization") for model in answers), *((model, "validation") for model in bodies)],
        ref_template=REFERENCE,
    )
    return dict(sorted(schemas["$defs"].items()))
