"""GET /api/v1/health: every dependency with its answer and latency, and what `vision doctor` finds."""

from __future__ import annotations

from aiohttp import web

from .auth import operator_for
from .errors import json_response
from .health_checks import HealthAnswer
from .operation import operation
from .page import Page
from .worker import ServedWorker

ANSWER_SECONDS = 25.0
"""Each check ends within 10 s; those about dead letters and the bucket come after those of the services."""


class HealthView(Page):
    """GET /api/v1/health: what is wrong and what to do, as this worker sees it. Needs a token for all tenants."""

    @operation(
        "Every dependency, and the doctor's findings",
        answers={200: HealthAnswer},
        errors=(403,),
        seconds=ANSWER_SECONDS,
    )
    async def get(self, request: web.Request) -> web.Response:
        return json_response(request, await health_report(self.app, request))


async def health_report(app: ServedWorker, request: web.Request) -> HealthAnswer:
    """The report, a few seconds old at most. Raises ApiError 403 for a tenant's token."""
    operator_for(request)
    return await app.health_checks.report()
