"""The flow: the way of a post through all stages, what each does now, and what it waits for."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from vision_app.web.auth import ALL_TENANTS, TENANT
from vision_app.web.health import ready_answer
from vision_app.web.operation import operation
from vision_app.web.pipeline import pipeline

from .base import UiPage
from .render import render

TITLES = {
    "redis_in": "Input: Redis",
    "policy": "Policy",
    "posts": "Posts",
    "media": "Pictures",
    "budget": "Budget",
    "analysis": "GigaChat Vision",
    "sink-postgres": "Postgres",
    "sink-s3": "S3",
    "sink-neo4j": "Neo4j",
    "redis_out": "Output: Redis",
}
"""Stage → its title."""
ROWS = (
    ("redis_in", "policy", "posts", "media"),
    ("budget", "analysis"),
    ("sink-postgres", "sink-s3", "sink-neo4j"),
    ("redis_out",),
)
"""The stages in the order of a post's way: those of a row one after the other, those of the third side by side."""


class FlowView(UiPage):
    """GET /ui: the pipeline as a picture with live numbers."""

    @operation("The flow", answers={})
    async def get(self, request: web.Request) -> web.Response:
        return render(request, "flow.html", **await self.values(request))

    async def values(self, request: web.Request) -> dict[str, Any]:
        """What the templates show. A tenant's session sees whether work goes on, not the numbers of all tenants."""
        _, ready = ready_answer(self.app)
        if request[TENANT] != ALL_TENANTS:
            return {"ready": ready, "state": None}
        state = await pipeline(self.app, request)
        stages = {one.stage: one for one in state.stages}
        return {"ready": ready, "state": state, "stages": stages, "rows": ROWS, "titles": TITLES}


class FlowPart(FlowView):
    """GET /ui/flow/part: the part of it that changes."""

    @operation("The flow's changing part", answers={})
    async def get(self, request: web.Request) -> web.Response:
        return render(request, "flow_part.html", **await self.values(request))
