"""/api/v1/audit: the last account as `vision audit` takes it, and a request to take one.

For operators only. An account of one tenant reads the topics of all, and its notes tell of the whole system.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlencode

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vision_app.audit.summary import AccountSummary
from vision_app.stores.audits import AuditRecord, RunState
from vision_app.telemetry import metrics
from vision_app.texts import say

from .audit_child import AuditScope
from .audit_runs import WorkerStops
from .auth import operator_for
from .errors import ApiError, json_response
from .models import Answer, BodyTime, Id, OperatorHeaders
from .operation import operation
from .page import Page
from .worker import ServedWorker

log = structlog.get_logger(__name__)

SEE = "/api/v1/audit"


class AuditQuery(BaseModel):
    tenant_id: Id | None = Field(None, description="the account of this tenant; without it, that of all tenants")


class AuditBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    since: BodyTime | None = Field(None, description="only what was published since then; null: all data that is kept")
    tenant_id: Id | None = Field(None, description="only this tenant; null: all tenants")


class AuditRun(BaseModel):
    """An account that was asked for."""

    id: int
    state: RunState = Field(description="cut_off: its worker stopped or died before the end")
    tenant_id: str | None = Field(description="null: all tenants")
    since: datetime | None = Field(description="null: all data that is kept")
    operator: str
    worker: str = Field(description="the worker that takes it")
    started_at: datetime
    ended_at: datetime | None = Field(description="null while it runs, and if its worker died")
    reason: str | None = Field(description="why there is no result, and what to do next; null if there is one")


class AuditAnswer(Answer):
    """The last account, the same whichever worker is asked."""

    state: Literal["never", "running", "taken", "failed", "cut_off"] = Field(
        description="of the account begun last; never: none was asked for"
    )
    audit: AuditRun | None = Field(description="the account begun last; null if none was asked for")
    running: AuditRun | None = Field(
        description="the account that is taken now, of this or another tenant; one at most"
    )
    summary: AccountSummary | None = Field(
        description="of the last account that was taken, also while another is taken or after one that failed"
    )


class AuditStartedAnswer(Answer):
    """The account is being taken. Ask `see` until `state` is not `running`."""

    audit: AuditRun
    see: str


class AuditView(Page):
    """/api/v1/audit: was every input answered once, and every token charged once? Needs a token for all tenants.

    GET shows the last account, POST has one taken by a process of its own, as `vision audit` does. It takes 15 s of
    processor time for 10,000 posts. One at a time: while one is taken, POST answers 409.
    """

    @operation("The last account", query=AuditQuery, answers={200: AuditAnswer}, errors=(403, 503))
    async def get(self, request: web.Request, query: AuditQuery) -> web.Response:
        return json_response(request, await last_audit(self.app, request, query.tenant_id))

    @operation(
        "Take an account",
        headers=OperatorHeaders,
        body=AuditBody,
        answers={202: AuditStartedAnswer},
        errors=(403, 409, 503),
    )
    async def post(self, request: web.Request, headers: OperatorHeaders, body: AuditBody) -> web.Response:
        started = await start_audit(self.app, request, body, headers.x_operator)
        return json_response(request, started, status=202)


async def last_audit(app: ServedWorker, request: web.Request, tenant_id: str | None = None) -> AuditAnswer:
    """The last account of this tenant, or of all tenants.

    Raises ApiError 403 for a tenant's token, 404 for that of another tenant, 503 without Postgres.
    """
    operator_for(request, tenant_id)
    async with app.readers.audits_for_page() as audits:
        last = await audits.last(tenant_id or "")
        taken = last if last is None or last.state == "taken" else await audits.last_taken(tenant_id or "")
        running = last if last is not None and last.state == "running" else await audits.running()
    return AuditAnswer(
        state="never" if last is None else last.state,
        audit=None if last is None else _run(last),
        running=None if running is None else _run(running),
        summary=None if taken is None else _summary(taken),
    )


async def start_audit(app: ServedWorker, request: web.Request, body: AuditBody, operator: str) -> AuditStartedAnswer:
    """Have an account taken in the background.

    Raises ApiError 403 for a tenant's token, 404 for that of another tenant, 409 while one is taken, 422, 503.
    """
    operator_for(request, body.tenant_id)
    if body.since is not None and body.since > datetime.now(UTC):
        fault = {"in": "body", "name": "since", "problem": "must not be in the future"}
        raise ApiError(422, "invalid_request", say("correct what is named in details.faults"), faults=[fault])
    scope = AuditScope(body.tenant_id or "", body.since)
    async with app.readers.audits_for_page() as audits:
        try:
            begun = await app.audits.start(scope, operator)
        except WorkerStops as fault:
            text = say("this worker is starting or stopping; repeat the request in a few seconds")
            raise ApiError(503, "not_serving", text) from fault
        running = None if begun is not None else await audits.running()
    if begun is None:
        text = say("an account is being taken; GET {see} shows when it is done, then repeat the request", see=SEE)
        details = {} if running is None else {"running": _run(running).model_dump(mode="json")}
        raise ApiError(409, "audit_running", text, see=SEE, **details)
    return AuditStartedAnswer(audit=_run(begun), see=_see(body.tenant_id))


def _see(tenant_id: str | None) -> str:
    return f"{SEE}?{urlencode({'tenant_id': tenant_id})}" if tenant_id else SEE


def _run(one: AuditRecord) -> AuditRun:
    reason = one.reason
    if one.state == "cut_off" and reason is None:
        reason = say("the worker that took it died or lost Postgres before the end; start it again")
    return AuditRun(
        id=one.id,
        state=one.state,
        tenant_id=one.tenant_id or None,
        since=one.since,
        operator=one.operator,
        worker=one.worker,
        started_at=one.started_at,
        ended_at=one.ended_at,
        reason=reason,
    )


def _summary(one: AuditRecord) -> AccountSummary | None:
    """The summary of an account. One that another version wrote in another form is not shown."""
    try:
        return AccountSummary.model_validate_json(one.summary or "")
    except ValidationError as fault:
        metrics.UNEXPECTED_ERRORS.labels(where="web").inc()
        log.warning("audit_summary_unreadable", audit=one.id, faults=fault.error_count())
        return None
