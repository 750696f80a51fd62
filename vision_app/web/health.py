"""Whether the process lives, and whether it is at work; if not, why not."""

from __future__ import annotations

from aiohttp import web

from .errors import json_response
from .models import AliveAnswer, ReadyAnswer
from .operation import operation
from .page import Page


class AliveView(Page):
    """GET /healthz: 200 as long as the event loop turns."""

    @operation("Whether the process lives", answers={200: AliveAnswer}, open=True)
    async def get(self, request: web.Request) -> web.Response:
        return json_response(request, AliveAnswer(status="alive"))


class ReadyView(Page):
    """GET /readyz: 200 when messages are being worked on, 503 with the reason otherwise."""

    @operation("Whether messages are being worked on", answers={200: ReadyAnswer, 503: ReadyAnswer}, open=True)
    async def get(self, request: web.Request) -> web.Response:
        reason = self.app.not_ready()
        status = "not_ready" if reason else "ready"
        answer = ReadyAnswer(status=status, reason=reason, waiting_for=self.app.waiting_for())
        return json_response(request, answer, status=503 if reason else 200)
