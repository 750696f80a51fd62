"""A tenant's budget: what it has spent and may still spend, and the changes by operators.

Reads use the budget actor's table, on the worker that owns it. Changes are commands to the actor, answered with 202.
"""

from __future__ import annotations

import time
from urllib.parse import quote

from aiohttp import web

from vision_app.domain import budget as core
from vision_app.domain.moment import Applied, Moment
from vision_app.messages import Pause, Reset, Resume, SetLimit, key_of
from vision_app.texts import say

from .auth import operator_for, tenant_asked
from .budget_commands import Change, accepted, command_operation, record, send, try_to_record
from .errors import ApiError, json_response
from .models import AcceptedAnswer, BudgetAnswer, LimitBody, OperatorHeaders, TenantPath
from .operation import operation
from .owner import ask_owner
from .page import Page
from .worker import ServedWorker


class BudgetView(Page):
    """GET and PUT /api/v1/budget/{tenant}: the ledger, in tokens, and its daily limit."""

    @operation("What a tenant spent and may spend", path=TenantPath, answers={200: BudgetAnswer}, errors=(404, 503))
    async def get(self, request: web.Request, path: TenantPath) -> web.Response:
        return json_response(request, await budget(self.app, request, path.tenant))

    @command_operation("Set the daily limit; lowering it needs no Postgres", path=TenantPath, body=LimitBody)
    async def put(
        self, request: web.Request, path: TenantPath, headers: OperatorHeaders, body: LimitBody
    ) -> web.Response:
        change = Change(path.tenant, "set_limit", headers.x_operator, body.limit)
        answer = await change_budget(self.app, request, change)
        return json_response(request, answer, status=202)


class ResetView(Page):
    """POST /api/v1/budget/{tenant}/reset: today's spending becomes zero, and tasks that wait for money go on."""

    @command_operation("Set today's spending to zero", path=TenantPath)
    async def post(self, request: web.Request, path: TenantPath, headers: OperatorHeaders) -> web.Response:
        answer = await change_budget(self.app, request, Change(path.tenant, "reset", headers.x_operator))
        return json_response(request, answer, status=202)


class PauseView(Page):
    """POST /api/v1/budget/{tenant}/pause: nothing new starts; what has started ends. Needs no Postgres."""

    @command_operation("Let nothing new start", path=TenantPath)
    async def post(self, request: web.Request, path: TenantPath, headers: OperatorHeaders) -> web.Response:
        answer = await change_budget(self.app, request, Change(path.tenant, "pause", headers.x_operator))
        return json_response(request, answer, status=202)


class ResumeView(Page):
    """POST /api/v1/budget/{tenant}/resume: the opposite of pause."""

    @command_operation("Let work go on after a pause", path=TenantPath)
    async def post(self, request: web.Request, path: TenantPath, headers: OperatorHeaders) -> web.Response:
        answer = await change_budget(self.app, request, Change(path.tenant, "resume", headers.x_operator))
        return json_response(request, answer, status=202)


async def change_budget(app: ServedWorker, request: web.Request, change: Change) -> AcceptedAnswer:
    """Record an operator's change and send its command. What can only save money needs no Postgres.

    Raises ApiError 403 for a tenant's token, 404 for another tenant, 503 if Postgres is needed and away, or Kafka is.
    """
    operator_for(request, change.tenant_id)
    tenant = change.tenant_id
    command: SetLimit | Pause | Resume | Reset
    match change.action:
        case "set_limit":
            command, recorded = SetLimit(tenant_id=tenant, limit=change.value), await try_to_record(app, change)
            if not recorded and not await _lowers(app, request, change):
                text = say("raising a limit needs Postgres, which is away; see `vision doctor`")
                raise ApiError(503, "store_unavailable", text)
        case "pause":
            command, recorded = Pause(tenant_id=tenant), await try_to_record(app, change)
        case "resume":
            command, recorded = Resume(tenant_id=tenant), await record(app, change)
        case "reset":
            command, recorded = Reset(tenant_id=tenant), await record(app, change)
    await send(app, command)
    return accepted(command, change.operator, recorded=recorded)


async def _lowers(app: ServedWorker, request: web.Request, change: Change) -> bool:
    """Whether this limit is not higher than the one in force. False until the ledger is loaded."""
    state = await budget(app, request, change.tenant_id)
    wanted = app.budget_rules().limit if change.value is None else change.value
    return state.loaded and wanted <= state.limit


async def budget(app: ServedWorker, request: web.Request, tenant: str) -> BudgetAnswer:
    """A tenant's ledger, from the worker that owns it. Raises ApiError 404 for another tenant, 503 without an owner."""
    tenant_asked(request, tenant)
    url = f"/api/v1/budget/{quote(tenant, safe='')}"
    answer = await ask_owner(app, app.budgets, key_of(tenant), request, url, BudgetAnswer)
    return answer or state_of(app, tenant)


def row_of(app: ServedWorker, tenant: str) -> core.BudgetRow | None:
    """The tenant's row in this worker's table."""
    row: core.BudgetRow | None = app.budgets.row(key_of(tenant))
    return row


def state_of(app: ServedWorker, tenant: str) -> BudgetAnswer:
    """The ledger in this worker's table. This worker must own it."""
    now = Moment(time_ms=round(time.time() * 1000), offset=0)
    row = row_of(app, tenant)
    shown = row or core.BudgetRow(tenant_id=tenant, born_ms=now.time_ms, applied=Applied(), day=now.day)
    view = core.view(shown, now, app.budget_rules())
    return BudgetAnswer(**view, known=row is not None, note=_note(row))


def _note(row: core.BudgetRow | None) -> str | None:
    """A warning for the operator if the numbers of the ledger are not loaded yet."""
    if row is None:
        return say(
            "not loaded yet: this ledger is new or was lost, and no command of the tenant has come since; what was "
            "spent today, the limit and a pause are read from Postgres at the first one, before anything is granted"
        )
    if not row.loaded:
        return say("not loaded yet: waits for Postgres, nothing is granted until then; see `vision doctor`")
    return None
