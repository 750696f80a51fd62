"""The flow: whether work goes on, what each stage holds, and what it waits for."""

from __future__ import annotations

from aiohttp import web

from vision_app.web.health import ready_answer
from vision_app.web.operation import operation

from .base import UiPage
from .render import render


class FlowView(UiPage):
    """GET /ui: the pipeline with what it waits for."""

    @operation("The flow", answers={})
    async def get(self, request: web.Request) -> web.Response:
        _, ready = ready_answer(self.app)
        return render(request, "flow.html", ready=ready)


class FlowPart(UiPage):
    """GET /ui/flow/part: the part of it that changes."""

    @operation("The flow's changing part", answers={})
    async def get(self, request: web.Request) -> web.Response:
        _, ready = ready_answer(self.app)
        return render(request, "flow_part.html", ready=ready)
