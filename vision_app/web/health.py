"""Whether the process lives, and whether it is at work; if not, why not."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from .errors import json_response
from .page import Page


class AliveView(Page):
    """GET /healthz: 200 as long as the event loop turns."""

    async def get(self, request: web.Request) -> web.Response:
        return json_response(request, {"status": "alive"})


class ReadyView(Page):
    """GET /readyz: 200 when messages are being worked on, 503 with the reason otherwise."""

    async def get(self, request: web.Request) -> web.Response:
        reason = self.app.not_ready()
        body: dict[str, Any] = {"status": "not_ready" if reason else "ready", "waiting_for": self.app.waiting_for()}
        if reason:
            body["reason"] = reason
        return json_response(request, body, status=503 if reason else 200)
