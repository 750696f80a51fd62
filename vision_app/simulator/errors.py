"""Error answers of the simulated API. docs/simulator.md lists the bodies and says which are invented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

MESSAGES = {
    400: "Bad request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Permission denied",
    404: "Not found",
    413: "Payload too large",
    422: "Unprocessable Entity",
    429: "Too many requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class ApiError(Exception):
    """An error answer: `status` and `body` are sent unchanged."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {body.get('message', '')}")
        self.status = status
        self.body = dict(body)
        self.headers = dict(headers or {})

    def response(self) -> web.Response:
        return json_response(self.body, status=self.status, headers=self.headers)


def api_error(status: int, message: str | None = None, headers: Mapping[str, str] | None = None) -> ApiError:
    """The shape of all endpoints but OAuth: `{"status", "message"}`."""
    return ApiError(status, {"status": status, "message": message or MESSAGES.get(status, "Error")}, headers)


def invalid(reason: str) -> ApiError:
    return api_error(422, f"Invalid params: {reason}")


def oauth_error(status: int, code: int, message: str) -> ApiError:
    """The OAuth gateway's shape: `{"code", "message"}`."""
    return ApiError(status, {"code": code, "message": message})


def json_response(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", charset="utf-8", headers=headers
    )
