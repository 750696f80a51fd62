"""The account on the view of health: when one was taken last, what it found, and a button that has one taken."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel

from vision_app.texts.russian import russian_of
from vision_app.web.audit import AuditBody, last_audit, start_audit
from vision_app.web.auth import operator_for
from vision_app.web.errors import ApiError
from vision_app.web.operation import operation
from vision_app.web.worker import ServedWorker

from .base import UiPage, see_other, utc_now
from .render import render, translate_for

PLACE = "/ui/health#audit"
PERIODS = {"all": None, "day": timedelta(days=1), "week": timedelta(days=7)}
PERIOD_TEXTS = {"all": "everything that is kept", "day": "the last 24 hours", "week": "the last 7 days"}
FIGURES = {
    "inputs": "Published",
    "ended": "Answered",
    "under_way": "On the way",
    "missing": "Not answered",
    "duplicate_events": "Announced twice",
    "calls": "Calls",
    "extra_calls": "Calls beyond one per picture",
    "tokens_billed": "Tokens billed",
    "tokens_ledger": "Tokens charged in the ledgers",
    "tokens_postgres": "Tokens charged in Postgres",
}
"""The figures that are shown, by their names in `Figures`."""
EVERY_SECONDS, EVERY_SECONDS_RUNNING = 30, 3


class AuditForm(BaseModel):
    period: Literal["all", "day", "week"] = "all"


class AuditView(UiPage):
    """/ui/audit: has an account of all tenants taken, and leads back to where it is shown."""

    @operation("The last account", answers={})
    async def get(self, request: web.Request) -> web.Response:
        operator_for(request)
        return see_other(PLACE)

    async def post(self, request: web.Request) -> web.Response:
        operator_for(request)
        form = await self.form(request, AuditForm)
        period = PERIODS[form.period]
        since = None if period is None else utc_now() - period
        try:
            await start_audit(self.app, request, AuditBody(since=since), "page")
        except ApiError as fault:
            if fault.status != HTTPStatus.CONFLICT:
                raise
        return see_other(PLACE)  # also while another one runs: it is shown there


class AuditPart(UiPage):
    """GET /ui/audit/part: the card."""

    @operation("The last account", answers={})
    async def get(self, request: web.Request) -> web.Response:
        operator_for(request)
        return render(request, "audit_part.html", **await audit_values(self.app, request))


async def audit_values(app: ServedWorker, request: web.Request) -> dict[str, Any]:
    """What the card shows. `audit` is None while Postgres is away."""
    language, _ = translate_for(request)
    shown = {"figures": FIGURES, "periods": PERIOD_TEXTS, "spoken": _in_russian if language == "ru" else str}
    try:
        audit = await last_audit(app, request)
    except ApiError as fault:
        if fault.status != HTTPStatus.SERVICE_UNAVAILABLE:
            raise
        return {**shown, "audit": None, "every": EVERY_SECONDS}
    return {**shown, "audit": audit, "every": EVERY_SECONDS_RUNNING if audit.running else EVERY_SECONDS}


@lru_cache(maxsize=256)
def _in_russian(sentence: str) -> str:
    """A sentence of the account in Russian; as it is if it is not known. Kept: the card is rendered again and again."""
    return russian_of(sentence)
