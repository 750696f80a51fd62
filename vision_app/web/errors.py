"""Uniform answers: every error is problem details (RFC 9457) with a code, a text and the trace id.

Exception texts are never sent.
"""

from __future__ import annotations

import hashlib
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

PROBLEM = "application/problem+json"
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
            response.headers.setdefault(name, value)  # the page's own documents set what they need
    return response


def json_response(request: web.Request, body: Answer, status: int = 200) -> web.Response:
    """An answer in the form of its model, with the trace id and an ETag; 304 if the caller has the same content."""
    headers = {}
    if request.method == "GET" and status == HTTPStatus.OK:
        headers["ETag"] = etag(body.model_copy(update={"trace_id": ""}).model_dump_json().encode())
        if unchanged(request, headers["ETag"]):
            return web.Response(status=304, headers=headers)
    traced = body.model_copy(update={"trace_id": request[TRACE]})
    return web.Response(
        body=traced.model_dump_json().encode(),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )


def etag(body: bytes) -> str:
    """The weak ETag of a content. Weak, because the trace id in the answer is not part of it."""
    return f'W/"{hashlib.sha256(body).hexdigest()[:20]}"'


def unchanged(request: web.Request, tag: str) -> bool:
    """Whether the caller says that it has the content of this ETag."""
    return tag in [given.strip() for given in request.headers.get("If-None-Match", "").split(",")]


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
    """Problem details after RFC 9457, and the same in `error`, the form that older callers read."""
    body = {
        "type": f"urn:vision:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": text,
        "error": {"code": code, "message": text, **({"details": details} if details else {})},
        "trace_id": trace,
    }
    return web.Response(body=orjson.dumps(body), status=status, content_type=PROBLEM, charset="utf-8")
