"""Declares once what an operation of the API takes and answers. Requests are checked by it; `/openapi.json` shows it.

`@operation` decorates a view's method. The method is called with validated models named `path`, `query`, `headers` and
`body`, as declared. A request that does not fit is answered with 422 and one line per fault.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from vision_app.texts import say

from .errors import ApiError, count_refused
from .models import Answer

RequestPart = Literal["path", "query", "headers", "body"]
Method = Callable[..., Awaitable[web.StreamResponse]]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Operation:
    """`answers` by status; `errors` are the statuses beyond those that every operation may answer with.

    `files`: by status, the types of answers that are not JSON; none for an answer without content.
    """

    summary: str
    answers: Mapping[int, type[Answer]]
    errors: Sequence[int] = ()
    takes: Mapping[RequestPart, type[BaseModel]] = field(default_factory=dict)
    open: bool = False  # needs no token
    files: Mapping[int, Sequence[str]] = field(default_factory=dict)


def operation(
    summary: str,
    *,
    answers: Mapping[int, type[Answer]],
    errors: Sequence[int] = (),
    open: bool = False,
    seconds: float | None = None,
    files: Mapping[int, Sequence[str]] | None = None,
    **takes: type[BaseModel],
) -> Callable[[Method], Method]:
    """Declare a view's method; `path`, `query`, `headers` and `body` name the models of what it takes.

    `seconds` is the longest time of a request, including the arrival of the body; default VISION_API_TIMEOUT_SECONDS.
    An endless answer has no limit: `seconds=math.inf`.
    """
    declared = Operation(summary, answers, errors, takes, open, files or {})  # type: ignore[arg-type]  # keyword names are the places

    def declare(method: Method) -> Method:
        @functools.wraps(method)
        async def checked(self: Any, request: web.Request, **_: str) -> web.StreamResponse:
            limit = self.app.settings.vision_api_timeout_seconds if seconds is None else seconds
            given: dict[str, BaseModel] | None = None
            try:
                async with asyncio.timeout(None if limit == math.inf else limit) as deadline:
                    given = await _given(request, declared.takes)
                    return await method(self, request, **given)
            except TimeoutError as fault:
                if not deadline.expired():
                    raise
                raise _too_slow(self.app.waiting_for(), caller=given is None) from fault

        checked.operation = declared  # type: ignore[attr-defined]  # read by openapi.py
        return checked

    return declare


async def _given(request: web.Request, takes: Mapping[RequestPart, type[BaseModel]]) -> dict[str, BaseModel]:
    given: dict[str, BaseModel] = {}
    if "path" in takes:
        given["path"] = check("path", takes["path"], dict(request.match_info))
    given |= _query(request, takes.get("query"))
    if "headers" in takes:
        given["headers"] = check("headers", takes["headers"], {k.lower(): v for k, v in request.headers.items()})
    if "body" in takes:
        given["body"] = check("body", takes["body"], await request.read())
    return given


def _query(request: web.Request, model: type[BaseModel] | None) -> dict[str, BaseModel]:
    """Check the query. An unknown parameter is refused: ignoring a mistyped one would answer another question."""
    repeated = sorted({name for name in request.query if len(request.query.getall(name)) > 1})
    if repeated:
        raise _invalid([{"in": "query", "name": name, "problem": "given more than once"} for name in repeated])
    if model is None:
        model = BaseModel
    if unknown := sorted(set(request.query) - set(model.model_fields)):
        allowed = ", ".join(model.model_fields) or "none"
        raise _invalid([{"in": "query", "name": n, "problem": f"unknown; there are: {allowed}"} for n in unknown])
    return {"query": check("query", model, dict(request.query))} if model is not BaseModel else {}


def check(place: RequestPart, model: type[Model], given: Mapping[str, Any] | bytes) -> Model:
    """The part of a request as its model. Raises ApiError 422 that names every fault."""
    try:
        if isinstance(given, bytes):  # strict: in JSON `"dry_run": 0` is not a boolean, and we do not guess
            return model.model_validate_json(given or (b"null" if needs_fields(model) else b"{}"), strict=True)
        return model.model_validate(given)
    except ValidationError as fault:
        raise _invalid(
            [
                {"in": place, "name": ".".join(map(str, error["loc"])), "problem": error["msg"]}
                for error in fault.errors(include_url=False, include_input=False, include_context=False)
            ]
        ) from fault


def needs_fields(model: type[BaseModel]) -> bool:
    """Whether a body of this model is required. It is optional if all its fields are."""
    return any(field.is_required() for field in model.model_fields.values())


def _too_slow(waiting_for: Mapping[str, str], *, caller: bool) -> ApiError:
    """408 if the caller was slow, otherwise 503, which names the services that this worker waits for, if any."""
    count_refused("timeout")
    if caller:
        return ApiError(408, "request_timeout", say("the request's body did not arrive in time; send it again"))
    if waiting_for:
        away = ", ".join(f"{service} ({why})" for service, why in waiting_for.items())
        text = say("there was no answer in time; this worker waits for {away}; see `vision doctor`", away=away)
        return ApiError(503, "timeout", text)
    return ApiError(503, "timeout", say("there was no answer in time; ask for less, or again in a few seconds"))


def _invalid(faults: list[dict[str, str]]) -> ApiError:
    return ApiError(422, "invalid_request", say("correct what is named in details.faults"), faults=faults)
