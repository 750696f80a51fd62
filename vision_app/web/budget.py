"""What a tenant has spent and may still spend today, read from the budget's table by its owner."""

from __future__ import annotations

import time

from aiohttp import web

from vision_app.domain import budget as core
from vision_app.domain.moment import Applied, Moment
from vision_app.messages import key_of

from .auth import tenant_asked
from .errors import json_response
from .owner import from_owner
from .page import Page


class BudgetView(Page):
    """GET /api/v1/budget/{tenant}: limit, spent, reserved, waiting. A tenant never seen has spent nothing."""

    async def get(self, request: web.Request, tenant: str) -> web.Response:
        tenant_asked(request, tenant)
        key = key_of(tenant)
        answer = await from_owner(self.app, self.app.budgets, key, request)
        if answer is not None:
            return answer
        stored = self.app.budgets.get(key)
        now = Moment(time_ms=round(time.time() * 1000), offset=0)
        row = core.BudgetRow.model_validate(stored) if stored else _unknown(tenant, now)
        return json_response(request, {**core.view(row, now, self.app.budget_rules()), "known": bool(stored)})


def _unknown(tenant: str, now: Moment) -> core.BudgetRow:
    return core.BudgetRow(tenant_id=tenant, born_ms=now.time_ms, applied=Applied(), day=now.day)
