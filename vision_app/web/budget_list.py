"""The ledgers of all tenants, a page at a time.

The names come from Postgres, the ledgers from the workers that own them: each owner is asked once for a page. Tables
are never listed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from urllib.parse import quote

import orjson
import structlog
from aiohttp import web
from yarl import URL

from vision_app.messages import key_of

from .auth import tenant_asked
from .budget import state_of
from .budget_list_models import (
    MAX_ASKED,
    BudgetsAnswer,
    BudgetsQuery,
    BudgetStatesAnswer,
    BudgetStatesQuery,
    State,
    TenantBudget,
)
from .errors import ApiError, json_response
from .models import BudgetAnswer
from .operation import operation
from .owner import ask_worker, owner_of
from .page import Page
from .worker import ServedWorker

log = structlog.get_logger(__name__)

MAX_SCANNED = 500
"""Tenants whose ledgers are looked at for one page with a filter."""
MAX_URL_CHARS = 6000
STATES = "/api/v1/budget-states"


class BudgetsView(Page):
    """GET /api/v1/budgets: every tenant's ledger, in tokens."""

    @operation("What every tenant spent and may spend", query=BudgetsQuery, answers={200: BudgetsAnswer}, errors=(503,))
    async def get(self, request: web.Request, query: BudgetsQuery) -> web.Response:
        return json_response(request, await budgets(self.app, request, query))


class BudgetStatesView(Page):
    """GET /api/v1/budget-states: the ledgers on the asked worker. For the other workers; use `/api/v1/budgets`."""

    @operation("Ledgers of one worker", query=BudgetStatesQuery, answers={200: BudgetStatesAnswer}, errors=(503,))
    async def get(self, request: web.Request, query: BudgetStatesQuery) -> web.Response:
        found = []
        for tenant in _names(query.tenants):
            tenant_asked(request, tenant)
            if await owner_of(self.app, self.app.budgets, key_of(tenant)) is None:
                found.append(state_of(self.app, tenant))
        return json_response(request, BudgetStatesAnswer(budgets=found))


async def budgets(app: ServedWorker, request: web.Request, query: BudgetsQuery) -> BudgetsAnswer:
    """A page of the ledgers that the caller may see. Raises ApiError 404 for another tenant, 503 without Postgres."""
    only = tenant_asked(request, query.tenant_id)
    if only is not None:
        states, unknown = await _states(app, request, [only])
        return BudgetsAnswer(budgets=_shown(states, query.state), next_cursor=None, unknown=unknown)
    found: list[TenantBudget] = []
    missing: list[str] = []
    after: str | None = query.cursor or ""
    scanned = 0
    while after is not None and len(found) < query.limit and scanned < MAX_SCANNED:
        step = min(MAX_ASKED, query.limit - len(found) if query.state is None else MAX_ASKED)
        async with app.readers.for_page() as reader:
            names = await reader.tenants_after(after, step)
        states, unknown = await _states(app, request, names)
        missing += unknown
        scanned += len(names)
        for one in _shown(states, query.state):
            found.append(one)
            after = one.tenant_id
            if len(found) == query.limit:
                break
        else:
            after = names[-1] if len(names) == step else None
    return BudgetsAnswer(budgets=found, next_cursor=after, unknown=missing)


def judge(ledger: BudgetAnswer, now: datetime) -> TenantBudget:
    """The ledger with its state and its forecast. Pure."""
    state: State = "waiting" if ledger.waiting else "ok"
    if ledger.waiting and not ledger.open_grants:
        state = "exhausted"
    if ledger.remaining == 0:
        state = "exhausted"
    if ledger.paused:
        state = "paused"
    return TenantBudget(**ledger.model_dump(), state=state, exhausted_at=forecast(ledger, now))


def forecast(ledger: BudgetAnswer, now: datetime) -> datetime | None:
    """When today's money ends at the pace since midnight UTC; None if it lasts, and for a ledger of another day."""
    start = datetime.fromisoformat(ledger.day).replace(tzinfo=UTC)
    elapsed = now - start
    if not start <= now < ledger.reset_at or ledger.spent <= 0:
        return None
    if ledger.remaining == 0:
        return now
    ends = start + elapsed * (ledger.limit / ledger.spent)
    return ends if ends < ledger.reset_at else None


def _shown(states: Iterable[BudgetAnswer], state: State | None) -> list[TenantBudget]:
    now = datetime.now(UTC)
    return [one for one in (judge(ledger, now) for ledger in states) if state in (None, one.state)]


async def _states(
    app: ServedWorker, request: web.Request, names: Sequence[str]
) -> tuple[list[BudgetAnswer], list[str]]:
    """The ledgers of these tenants, and the tenants whose owner did not answer."""
    found: list[BudgetAnswer] = []
    elsewhere: dict[URL, list[str]] = defaultdict(list)
    for name in names:
        owner = await owner_of(app, app.budgets, key_of(name))
        if owner is None:
            found.append(state_of(app, name))
        else:
            elsewhere[owner].append(name)
    asked = [(owner, part) for owner, of in elsewhere.items() for part in _parts(of)]
    answers = await asyncio.gather(
        *(ask_worker(app, owner, request, _url(part), BudgetStatesAnswer) for owner, part in asked),
        return_exceptions=True,
    )
    for (_, part), answer in zip(asked, answers, strict=True):
        if isinstance(answer, BudgetStatesAnswer):
            found += answer.budgets
        elif not isinstance(answer, ApiError):
            raise answer
        else:
            log.warning("ledgers_not_read", tenants=len(part), error=answer.text)
    known = {one.tenant_id: one for one in found}  # in the order of the names: a cursor names the last one shown
    return [known[name] for name in names if name in known], [name for name in names if name not in known]


def _url(names: Sequence[str]) -> str:
    return f"{STATES}?tenants={quote(orjson.dumps(list(names)), safe='')}"


def _parts(names: Sequence[str]) -> list[list[str]]:
    """The names in parts whose URLs are short enough for every server."""
    parts: list[list[str]] = [[]]
    for name in names:
        if parts[-1] and len(_url([*parts[-1], name])) > MAX_URL_CHARS:
            parts.append([])
        parts[-1].append(name)
    return parts


def _names(text: str) -> list[str]:
    """The tenants of a request between workers. Raises ApiError 422."""
    try:
        names = orjson.loads(text)
    except orjson.JSONDecodeError:
        names = None
    if not isinstance(names, list) or len(names) > MAX_ASKED or not all(isinstance(n, str) and n for n in names):
        fault = {"in": "query", "name": "tenants", "problem": f"not a JSON list of 1 to {MAX_ASKED} tenant ids"}
        raise ApiError(422, "invalid_request", "correct what is named in details.faults", faults=[fault])
    return names
