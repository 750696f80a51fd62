"""Cost: what was spent and what was not spent, by tenant, channel, rule, model, kind or day."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, get_args

from aiohttp import web
from pydantic import BaseModel, Field

from vision_app.stores.costs import Dimension
from vision_app.web.cost import CostQuery, cost
from vision_app.web.operation import check, operation

from .base import UiPage, utc_now
from .render import render

PERIODS = ("today", "yesterday", "week", "month")
PERIOD_TEXTS = {"today": "today", "yesterday": "yesterday", "week": "last 7 days", "month": "this month"}
BY_TEXTS = {"tenant": "tenant", "channel": "channel", "rule": "rule", "model": "model", "kind": "kind", "day": "day"}
HOW_TEXTS = {
    "cache": "cache",
    "single_flight": "one call for several posts",
    "policy": "policy",
    "ocr": "OCR instead",
    "deferred": "deferred",
}


class CostPageQuery(BaseModel):
    by: Dimension = "tenant"
    period: Literal["today", "yesterday", "week", "month"] = "today"
    tenant_id: Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")] = ""


class CostView(UiPage):
    """GET /ui/cost: what a time cost, and what was saved in it."""

    @operation("Cost", query=CostPageQuery, answers={})
    async def get(self, request: web.Request, query: CostPageQuery) -> web.Response:
        now = utc_now()
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        since, until = {
            "today": (midnight, now),
            "yesterday": (midnight - timedelta(days=1), midnight),
            "week": (now - timedelta(days=7), now),
            "month": (midnight.replace(day=1), now),
        }[query.period]
        asked = {"by": query.by, "since": since.isoformat(), "until": until.isoformat()}
        asked |= {"tenant_id": query.tenant_id} if query.tenant_id else {}
        found = await cost(self.app, request, check("query", CostQuery, asked))
        return render(
            request,
            "cost.html",
            found=found,
            query=query,
            dimensions=get_args(Dimension),
            periods=PERIODS,
            period_texts=PERIOD_TEXTS,
            by_texts=BY_TEXTS,
            how_texts=HOW_TEXTS,
        )
