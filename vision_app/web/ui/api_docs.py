"""The API's reference at /docs, rendered from the OpenAPI document. Works without internet and without a script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from vision_app.web.openapi import METHODS, document
from vision_app.web.page import Page

from .base import UiPage
from .render import render

Json = dict[str, Any]


@dataclass(frozen=True)
class Described:
    """One operation as the reference shows it. `answers`: status → (description, name of the schema).

    `examples`: of the body, and of each answer that is no error, with what it is an example of.
    """

    method: str
    path: str
    operation: Json
    body: str
    answers: Mapping[str, tuple[str, str]]
    examples: Sequence[tuple[str, str]]

    @property
    def anchor(self) -> str:
        return str(self.operation["operationId"])


def docs_view(routes: Mapping[str, type[Page]]) -> type[Page]:
    """The view that shows the document of these routes."""
    described = document(routes)
    by_tag: dict[str, list[Described]] = {}
    for one in _operations(described):
        by_tag.setdefault(one.operation["tags"][0], []).append(one)
    schemas = {
        name: orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode()
        for name, schema in described["components"]["schemas"].items()
    }

    class DocsView(UiPage):
        """GET /docs: the API's reference."""

        async def get(self, request: web.Request) -> web.Response:
            answer = render(request, "api_docs.html", by_tag=by_tag, schemas=schemas, info=described["info"])
            answer.enable_compression()  # it is large and holds no secret that a compressed size could give away
            return answer

    return DocsView


def _operations(described: Json) -> Iterator[Described]:
    for path, item in described["paths"].items():
        for method in METHODS:
            if method in item:
                operation = item[method]
                answers = {
                    status: (answer["description"], _schema(answer))
                    for status, answer in operation["responses"].items()
                }
                body = _schema(operation.get("requestBody", {}))
                yield Described(method.upper(), path, operation, body, answers, list(_examples(operation)))


def _examples(operation: Json) -> Iterator[tuple[str, str]]:
    given = [("request", operation.get("requestBody", {}))]
    given += [(status, answer) for status, answer in operation["responses"].items() if int(status) < 400]
    for of, holder in given:
        for content in holder.get("content", {}).values():
            if isinstance(example := content.get("example"), str):
                yield of, example
            elif example is not None:
                yield of, orjson.dumps(example, option=orjson.OPT_INDENT_2).decode()


def _schema(holder: Json) -> str:
    """The name of the schema of a body; empty without one."""
    for content in holder.get("content", {}).values():
        return str(content["schema"].get("$ref", "")).rpartition("/")[2]
    return ""
