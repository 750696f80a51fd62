"""GET /api/v1/cost: what was spent and what was saved, as `vision cost` shows it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

from aiohttp import web
from pydantic import BaseModel, Field

from vision_app.operations.cost import month_of, take_cost
from vision_app.settings import parse_prices
from vision_app.stores.costs import CostReader, Dimension, Period

from .auth import tenant_asked
from .errors import ApiError, json_response
from .models import Answer, Id, Time
from .operation import operation
from .page import Page
from .worker import ServedWorker


class CostQuery(BaseModel):
    by: Dimension = Field("tenant", description="how to group")
    since: Time | None = Field(None, description="included; default: the start of this month in UTC")
    until: Time | None = Field(None, description="excluded; default: now")
    tenant_id: Id | None = Field(None, description="only this tenant")


class SavedAnswer(BaseModel):
    how: str = Field(description="cache, single_flight (one call for posts of the same time), policy, ocr or deferred")
    media: int
    tokens: int = Field(description="what they would have cost")
    estimated: bool = Field(description="the mean of a charged call, times the pictures")


class CostGroup(BaseModel):
    group: str = Field(description="`unknown`: the charge names nothing that says more")
    calls: int = Field(description="grants that were charged")
    tokens: int
    cut_off_tokens: int = Field(description="of these: charged at an estimate, as the call was cut off")
    money: str | None = Field(description="roubles; null if a model of the group has no price in VISION_PRICES")
    saved: list[SavedAnswer]


class MonthAnswer(BaseModel):
    name: str
    tokens: int
    money: str | None
    forecast_tokens: int = Field(description="at the end of the month, if it goes on as since its start")
    forecast_money: str | None


class CostAnswer(Answer):
    """Tokens and calls spent, to the token as in the ledgers, and what was not spent. The dearest group first."""

    by: Dimension
    since: datetime
    until: datetime
    rows: list[CostGroup]
    total: CostGroup
    month: MonthAnswer
    unpriced: list[str] = Field(description="models without a price")


class CostView(Page):
    """GET /api/v1/cost: what looking at pictures cost, and what was saved. A tenant's token sees its own."""

    @operation("What was spent and what was saved", query=CostQuery, answers={200: CostAnswer}, errors=(503,))
    async def get(self, request: web.Request, query: CostQuery) -> web.Response:
        return json_response(request, await cost(self.app, request, query))


async def cost(app: ServedWorker, request: web.Request, query: CostQuery) -> CostAnswer:
    """The report that the caller may see. Raises ApiError 404 for another tenant, 422, 503 without Postgres."""
    tenant, now = tenant_asked(request, query.tenant_id), datetime.now(UTC)
    of = Period(query.since or month_of(now)[0], query.until or now, tenant)
    if of.since >= of.until:
        fault = {"in": "query", "name": "since", "problem": "must be earlier than until"}
        raise ApiError(422, "invalid_request", "correct what is named in details.faults", faults=[fault])
    async with app.readers.pool_for_page() as pool:
        reader = CostReader(pool, app.settings.gigachat_vision_model)
        found = await take_cost(reader, parse_prices(app.settings.vision_prices), query.by, of, now)
    return CostAnswer.model_validate(_texts(asdict(found)))


def _texts(found: dict[str, object]) -> dict[str, object]:
    """The report with money as text, so that no reader rounds it."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {
                name: str(item) if name.endswith("money") and item is not None else plain(item)
                for name, item in value.items()
            }
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return {name: plain(value) for name, value in found.items()}
