"""Tenants: what each has spent and may spend, what waits for money, and an operator's changes."""

from __future__ import annotations

from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, Field

from vision_app.stores.posts import Action, Row
from vision_app.web.auth import operator_for
from vision_app.web.budget import budget, change_budget
from vision_app.web.budget_commands import Change
from vision_app.web.budget_list import budgets, judge
from vision_app.web.budget_list_models import BudgetsQuery, State
from vision_app.web.errors import ApiError
from vision_app.web.models import MAX_LIMIT, Id, ParkedQuery
from vision_app.web.operation import operation
from vision_app.web.parked import parked

from .base import UiPage, paging, see_other, utc_now
from .render import render

Who = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Why = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$")]

SHOWN_PARKED = 50


class TenantsQuery(BaseModel):
    state: State | Literal[""] = ""
    tenant_id: Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")] = ""
    cursor: Id | None = None


class TenantQuery(BaseModel):
    tenant_id: Id
    start: int = Field(0, ge=0, le=2**53)
    done: Action | None = None


class ChangeQuery(BaseModel):
    tenant_id: Id
    action: Action


class ChangeForm(ChangeQuery):
    who: Who
    reason: Why
    limit: Annotated[int, Field(ge=0, le=MAX_LIMIT)] | None = None


class TenantsView(UiPage):
    """GET /ui/tenants: every tenant's money."""

    @operation("Tenants", query=TenantsQuery, answers={})
    async def get(self, request: web.Request, query: TenantsQuery) -> web.Response:
        asked = BudgetsQuery(tenant_id=query.tenant_id or None, state=query.state or None, cursor=query.cursor)
        found = await budgets(self.app, request, asked)
        kept = {"state": query.state, "tenant_id": query.tenant_id}
        return render(
            request,
            "tenants.html",
            found=found,
            query=query,
            **paging("/ui/tenants", kept, query.cursor, found.next_cursor),
        )


class TenantView(UiPage):
    """GET /ui/tenant: one tenant's ledger, what waits for money, and what operators did."""

    @operation("A tenant", query=TenantQuery, answers={})
    async def get(self, request: web.Request, query: TenantQuery) -> web.Response:
        ledger = judge(await budget(self.app, request, query.tenant_id), utc_now())
        waiting = await parked(self.app, request, query.tenant_id, ParkedQuery(start=query.start, count=SHOWN_PARKED))
        return render(
            request,
            "tenant.html",
            ledger=ledger,
            waiting=waiting,
            actions=await self._actions(query.tenant_id),
            done=query.done,
        )

    async def _actions(self, tenant: str) -> list[Row] | None:
        """What operators did; None while Postgres is away."""
        try:
            async with self.app.readers.for_page() as reader:
                return await reader.actions(tenant)
        except ApiError:
            return None


class TenantChangeView(UiPage):
    """/ui/tenant/change: asks for confirmation, name and reason, then changes the budget as the API does."""

    @operation("A change of a tenant's budget", query=ChangeQuery, answers={})
    async def get(self, request: web.Request, query: ChangeQuery) -> web.Response:
        operator_for(request, query.tenant_id)
        ledger = judge(await budget(self.app, request, query.tenant_id), utc_now())
        return render(request, "tenant_change.html", ledger=ledger, action=query.action)

    async def post(self, request: web.Request) -> web.Response:
        form = await self.form(request, ChangeForm)
        change = Change(form.tenant_id, form.action, form.who, form.limit, form.reason)
        await change_budget(self.app, request, change)
        return see_other("/ui/tenant", tenant_id=form.tenant_id, done=form.action)
