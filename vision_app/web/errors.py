"""Uniform answers: every error is JSON with a code, a text and the trace id. Exception texts are never sent."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from aiohttp import web

from vision_app.telemetry import metrics
from vision_app.telemetry.logging import bind

from .models import Answer

log = structlog.get_logger(__name__)

TRACE_HEADER = "X-Trace-ID"
TRACE = web.RequestKey("trace", str)
MAX_TRACE_CHARACTERS = 128
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiError(Exception):
    """An answer other than success. `text` is for the caller and says what to do next."""

    def __init__(
        self, status: int, code: str, text: str, *, headers: Mapping[str, str] | None = None, **details: Any
    ) -> None:
        super().__init__(text)
        self.status, self.code, self.text, self.details = status, code, text, details
        self.headers = headers or {}


@web.middleware
async def uniform(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Use the given trace id or make one, turn every error into the same JSON, and add the security headers."""
    trace = _trace_of(request)
    request[TRACE] = trace
    with bind(trace_id=trace):
        try:
            response = await handler(request)
        except ApiError as fault:
            response = _error(trace, fault.status, fault.code, fault.text, fault.details)
            response.headers.update(fault.headers)
        except web.HTTPException as fault:
            response = _http(trace, fault)
        except Exception:
            if request.transport is None:  # the caller has closed the connection: there is no one to answer
                count_refused("hung_up")
                return web.Response(status=400)
            metrics.UNEXPECTED_ERRORS.labels(where="web").inc()
            log.exception("page_failed", path=request.path)
            text = "the request failed; the log has the reason under this trace_id"
            response = _error(trace, 500, "internal_error", text, {})
    if not response.prepared:
        response.headers[TRACE_HEADER] = trace
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
    return response


def json_response(request: web.Request, body: Answer, status: int = 200) -> web.Response:
    """An answer in the form of its model, with the trace id."""
    traced = body.model_copy(update={"trace_id": request[TRACE]})
    return web.Response(
        body=traced.model_dump_json().encode(), status=status, content_type="application/json", charset="utf-8"
    )


def count_refused(reason: str) -> None:
    """Count a request or a connection that was refused before anything was done for it."""
    metrics.WEB_REFUSED.labels(reason=reason).inc()


def plain_error(status: int) -> web.Response:
    """An error outside of our request handling, in the same form. It repeats nothing of what the caller sent."""
    trace = f"req_{uuid.uuid4().hex[:16]}"
    phrase = HTTPStatus(status).phrase
    response = _error(trace, status, phrase.lower().replace(" ", "_"), phrase, {})
    response.headers.update({TRACE_HEADER: trace, **SECURITY_HEADERS})
    return response


def _trace_of(request: web.Request) -> str:
    given = request.headers.get(TRACE_HEADER, "").strip()
    usable = given.isprintable() and given.isascii() and 0 < len(given) <= MAX_TRACE_CHARACTERS
    return given if usable else f"req_{uuid.uuid4().hex[:16]}"


def _http(trace: str, fault: web.HTTPException) -> web.Response:
    response = _error(trace, fault.status, fault.reason.lower().replace(" ", "_"), HTTPStatus(fault.status).phrase, {})
    if "Allow" in fault.headers:
        response.headers["Allow"] = fault.headers["Allow"]
    return response


def _error(trace: str, status: int, code: str, text: str, details: dict[str, Any]) -> web.Response:
    body = {"error": {"code": code, "message": text, **({"details": details} if details else {})}, "trace_id": trace}
    return _json(body, status)


def _json(body: dict[str, Any], status: int) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json", charset="utf-8")
