"""The OpenAPI document: every route and every status is in it, and all its references resolve."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from tests.api_document import differences, resolve
from vision_app.web import examples
from vision_app.web.models import Answer
from vision_app.web.openapi import METHODS, document, operations
from vision_app.web.page import Page
from vision_app.web.routes import ROUTES

DOCUMENT: Any = document(ROUTES)


def everything(part: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(part, dict):
        yield from part.items()
        for value in part.values():
            yield from everything(value)
    elif isinstance(part, list):
        for value in part:
            yield from everything(value)


DECLARED = [one for view in ROUTES.values() for _, one in operations(view)]
MODELS: set[type[BaseModel]] = {model for one in DECLARED for model in one.answers.values()} | {
    one.takes["body"] for one in DECLARED if "body" in one.takes
}


def name_of(model: Any) -> str:
    return str(model.__name__)


ALL = [(path, method, item) for path, methods in DOCUMENT["paths"].items() for method, item in methods.items()]


def test_it_is_openapi_3_1_with_every_route_and_every_method_of_every_view() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert set(DOCUMENT["info"]) >= {"title", "version"}
    written = {path: {m for m in METHODS if m in vars(view)} for path, view in ROUTES.items()}
    assert {path: set(methods) for path, methods in DOCUMENT["paths"].items()} == written


def test_a_method_that_is_not_declared_would_be_noticed() -> None:
    class Undeclared(Page):
        async def get(self, request: Any) -> Any:
            raise NotImplementedError

    assert list(operations(Undeclared)) == []


def test_references_lead_somewhere_and_no_schema_is_left_over() -> None:
    named = {value for key, value in everything(DOCUMENT) if key == "$ref"}
    for reference in named:
        assert resolve(DOCUMENT, reference)
    assert {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]} == named


def test_operation_ids_are_unique() -> None:
    ids = [item["operationId"] for _, _, item in ALL]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(("path", "method", "item"), ALL, ids=[f"{method} {path}" for path, method, _ in ALL])
def test_an_operation_is_described(path: str, method: str, item: dict[str, Any]) -> None:
    parameters = [(parameter["in"], parameter["name"]) for parameter in item["parameters"]]
    assert len(set(parameters)) == len(parameters)
    assert {name for where, name in parameters if where == "path"} == set(re.findall(r"{(\w+)}", path))
    assert all(parameter["required"] for parameter in item["parameters"] if parameter["in"] == "path")
    assert all({"schema", "name", "in"} <= set(parameter) for parameter in item["parameters"])
    assert ("header", "X-Trace-ID") in parameters
    assert item["summary"]
    assert item["description"]
    statuses = set(item["responses"])
    assert any(status.startswith("2") for status in statuses)
    assert {"422", "500"} <= statuses
    assert (item["security"] == []) == path.startswith(("/healthz", "/readyz"))
    assert path.startswith(("/healthz", "/readyz")) or {"401", "404"} <= statuses
    assert all(response["description"] for response in item["responses"].values())
    if method in ("put", "post", "delete"):
        assert ("header", "X-Operator") in parameters
        assert "403" in statuses


@pytest.mark.parametrize(("path", "method", "item"), ALL, ids=[f"{method} {path}" for path, method, _ in ALL])
def test_every_answer_body_and_needed_parameter_has_an_example_that_fits(path: str, method: str, item: Any) -> None:
    for status, response in item["responses"].items():
        for kind, content in response.get("content", {}).items():
            if kind.startswith("image/"):
                continue  # a picture
            assert list(differences(DOCUMENT, content["schema"], content["example"], status)) == []
    body = item.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        assert list(differences(DOCUMENT, body["schema"], body["example"], "request")) == []
    for parameter in item["parameters"]:
        assert "example" in parameter or not parameter["required"], parameter["name"]


@pytest.mark.parametrize("model", sorted(MODELS, key=name_of), ids=name_of)
def test_an_example_is_what_its_model_takes_and_answers(model: type[BaseModel]) -> None:
    """Stricter than the schema: validators, and every field that an answer has."""
    given = examples.OF_MODEL[model.__name__]
    read = model.model_validate_json(orjson.dumps(given), strict=True)
    if issubclass(model, Answer):
        assert set(read.model_dump()) == {"trace_id", *given}


def test_no_example_is_left_over() -> None:
    assert set(examples.OF_MODEL) == {model.__name__ for model in MODELS}
    assert set(examples.ACCEPTED) == {
        item["operationId"] for _, _, item in ALL if "AcceptedAnswer" in str(item["responses"].get("202", ""))
    }
    used = {parameter["name"] for _, _, item in ALL for parameter in item["parameters"]}
    assert set(examples.PARAMETERS) <= used


def test_examples_tell_one_story() -> None:
    """The same post and tenant everywhere, and the commands by their own names."""
    operation = DOCUMENT["paths"]["/api/v1/budget/{tenant}/pause"]["post"]
    assert operation["responses"]["202"]["content"]["application/json"]["example"]["command"] == "pause"
    missing = DOCUMENT["paths"]["/readyz"]["get"]["responses"]["503"]["content"]["application/json"]["example"]
    assert (missing["status"], missing["reason"] is None) == ("not_ready", False)


def test_parameters_say_what_may_be_given() -> None:
    by_name = {p["name"]: p["schema"] for p in DOCUMENT["paths"]["/api/v1/vision/posts"]["get"]["parameters"]}
    assert (by_name["page_size"]["minimum"], by_name["page_size"]["maximum"]) == (1, 100)
    assert by_name["provider"]["enum"] == ["gigachat", "ocr_fallback", "ocr"]
    assert by_name["analyzed_after"]["format"] == "date-time"
    body = DOCUMENT["paths"]["/api/v1/budget/{tenant}"]["put"]["requestBody"]
    assert body["required"]
    assert resolve(DOCUMENT, body["content"]["application/json"]["schema"]["$ref"])["required"] == ["limit"]
