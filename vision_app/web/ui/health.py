"""Health: every dependency with its answer and latency, the alerts that fire, and what the doctor finds."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from vision_app.stack.checks import Level
from vision_app.web.auth import ALL_TENANTS, TENANT
from vision_app.web.health import ready_answer
from vision_app.web.health_report import ANSWER_SECONDS, STATES, health_report
from vision_app.web.operation import operation

from .audit import audit_values
from .base import UiPage
from .render import render

ORDER = (Level.FAILED, Level.HINT, Level.OK)


class HealthView(UiPage):
    """GET /ui/health: what is wrong and what to do."""

    template = "health.html"

    @operation("Health", answers={}, seconds=ANSWER_SECONDS)
    async def get(self, request: web.Request) -> web.Response:
        if request[TENANT] != ALL_TENANTS:
            return render(request, self.template, **await self.values(request))
        health, account = await asyncio.gather(self.values(request), audit_values(self.app, request))
        return render(request, self.template, **health, **account)

    async def values(self, request: web.Request) -> dict[str, Any]:
        """What the templates show. A tenant's session sees whether work goes on, not the operator's findings."""
        _, ready = ready_answer(self.app)
        if request[TENANT] != ALL_TENANTS:
            return {"ready": ready, "report": None}
        report = await health_report(self.app, request)
        findings = sorted(report.findings, key=lambda one: ORDER.index(one.verdict))
        by_state = {state: [one for one in report.alerts if one.state == state] for state in STATES}
        return {"ready": ready, "report": report, "findings": findings, "alerts": by_state}


class HealthPart(HealthView):
    """GET /ui/health/part: the part of it that changes."""

    template = "health_part.html"

    @operation("Health", answers={}, seconds=ANSWER_SECONDS)
    async def get(self, request: web.Request) -> web.Response:
        return render(request, self.template, **await self.values(request))
