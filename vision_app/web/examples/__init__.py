"""Examples for the OpenAPI document: of every answer and body by their model, and of parameters by their name.

One story: tenant `acme` has published post `p-1001`. A test holds each example against its model and its schema. Not
here: what the fields mean (the models).
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from .audits import AUDITS
from .money import MONEY
from .posts import POST, POSTS, SHA
from .system import SYSTEM

Json = dict[str, Any]

OF_MODEL: Mapping[str, Json] = {**POSTS, **MONEY, **SYSTEM, **AUDITS}
"""By the name of a model of an answer or a body."""

ACCEPTED: Mapping[str, str] = {
    "putBudget": "set_limit",
    "postReset": "reset",
    "postPause": "pause",
    "postResume": "resume",
    "deleteParked": "drop",
    "deleteParkedTask": "drop",
}
"""Operations that send a command to the budget → its name."""

PARAMETERS: Mapping[str, Any] = {
    "post_id": POST,
    "tenant": "acme",
    "tenant_id": "acme",
    "sha256": SHA,
    "number": 7,
    "id": "vision.media-3-17",
    "tenants": '["acme"]',
    "X-Operator": "anna",
    "Last-Event-ID": "1764331200000-0",
    "q": "кот окно",
    "after": "2026-11-27T00:00:00Z",
    "since": "2026-11-27T00:00:00Z",
    "until": "2026-11-28T00:00:00Z",
}
"""By name, wherever the parameter is."""

ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "Bad Request"),
    401: ("unauthorized", "send Authorization: Bearer <token>, one of VISION_API_TOKENS"),
    403: ("forbidden", "this needs a token for all tenants: token=* in VISION_API_TOKENS"),
    404: ("not_found", "there is nothing here that this token may see"),
    408: ("request_timeout", "the request's body did not arrive in time; send it again"),
    409: ("ambiguous", "several tenants have a post of this id; add ?tenant_id="),
    410: ("expired", "the picture was deleted from the bucket at 2026-11-28T12:00:01+00:00"),
    413: ("request_entity_too_large", "Request Entity Too Large"),
    421: ("foreign_host", "this is not a name of this server; add it to VISION_ALLOWED_HOSTS"),
    422: ("invalid_request", "correct what is named in details.faults"),
    429: ("too_many_requests", "too many requests; send fewer, or raise VISION_API_RATE_PER_SECOND"),
    500: ("internal_error", "the request failed; the log has the reason under this trace_id"),
    503: ("store_unavailable", "Postgres does not answer; see `vision doctor`"),
}
"""By status: the code and the text of a usual error."""

TRACE_ID = "req_6f1c2a9b3d4e5f60"

FILES: Mapping[str, str] = {
    "text/event-stream": "retry: 3000\n\n"
    "id: 1764331200000-0\nevent: ready\ndata: {}\n\n"
    "id: 1764331201234-0\nevent: change\n"
    f'data: {{"tenant_id":"acme","post_id":"{POST}","status":"ok","at":"2026-11-28T12:00:01.234000+00:00"}}\n\n'
}
"""By type of content: an answer that is not JSON."""


def answer(model: str, status: int, operation_id: str) -> Json:
    """The example of an answer of this model; for errors, of this status. Raises KeyError if there is none."""
    if model == "ErrorAnswer":
        return _error(status)
    found = {"trace_id": TRACE_ID, **OF_MODEL[model]}
    if model == "AcceptedAnswer":
        found["command"] = ACCEPTED[operation_id]
    if model == "ReadyAnswer" and status != HTTPStatus.OK:
        found |= {"status": "not_ready", "reason": "the tables are being recovered: 12 s"}
    return found


def _error(status: int) -> Json:
    code, text = ERRORS[status]
    details = {"faults": [{"in": "query", "name": "limit", "problem": "Input should be less than or equal to 100"}]}
    return {
        "type": f"urn:vision:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": text,
        "error": {"code": code, "message": text, **({"details": details} if status == 422 else {})},
        "trace_id": TRACE_ID,
    }
