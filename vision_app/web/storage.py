"""Storage: what the bucket holds, whether an upload is allowed, and clean-ups on demand.

Numbers come from the accounts (`tenant_storage_usage`), never from a listing made for a page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from vision_app.domain.storage import Aim
from vision_app.retention.accounts import sum_usages
from vision_app.retention.cleanup import Report
from vision_app.retention.keeper import AWAY
from vision_app.retention.limits import gib
from vision_app.retention.lock import StorageBusy
from vision_app.settings import Settings
from vision_app.stores.keys import account_of
from vision_app.stores.s3 import S3Error
from vision_app.telemetry import metrics

from .auth import ALL_TENANTS, TENANT, operator_for, tenant_asked
from .errors import ApiError, json_response
from .models import OperatorHeaders
from .operation import operation
from .page import Page
from .storage_answers import by_type, current_of, stats_of
from .storage_models import (
    CheckAnswer,
    CheckBody,
    CleanupAnswer,
    CleanupBody,
    CleanupQuery,
    CleanupRunningAnswer,
    Freed,
    QuotaAnswer,
    StorageStatsAnswer,
    UsageAnswer,
    UsagePath,
)
from .worker import ServedWorker

log = structlog.get_logger(__name__)

CLEANUP_SECONDS = 50.0
REQUEST_SECONDS = 60.0
STATS = "/api/v1/storage/stats"


class QuotaView(Page):
    """GET /api/v1/storage/quota: what the bucket holds, by type, and its limits."""

    @operation("What the bucket holds and may hold", answers={200: QuotaAnswer}, errors=(403, 503))
    async def get(self, request: web.Request) -> web.Response:
        operator_for(request)
        async with _reachable(self.app):
            bucket = sum_usages(await self.app.keeper.held())
        current = current_of(self.app.settings, bucket)
        answer = QuotaAnswer(
            **current.model_dump(),
            emergency_threshold_gb=self.app.settings.s3_emergency_threshold_gb,
            last_updated=bucket.updated_at,
        )
        return json_response(request, answer)


class StorageStatsView(Page):
    """GET /api/v1/storage/stats: usage, limits, rules, the largest tenants, the last count and clean-up."""

    @operation("Usage, limits and rules of storage", answers={200: StorageStatsAnswer}, errors=(403, 503))
    async def get(self, request: web.Request) -> web.Response:
        return json_response(request, await stats(self.app, request))


class UsageView(Page):
    """GET /api/v1/storage/usage/{tenant_id}: what one tenant holds; a tenant's token sees its own."""

    @operation("What one tenant holds", path=UsagePath, answers={200: UsageAnswer}, errors=(404, 503))
    async def get(self, request: web.Request, path: UsagePath) -> web.Response:
        return json_response(request, await usage(self.app, request, path.tenant_id))


class QuotaCheckView(Page):
    """POST /api/v1/storage/quota/check: may a tenant add an object of this size? For producers, before they upload."""

    @operation(
        "Whether an object may come in",
        headers=OperatorHeaders,
        body=CheckBody,
        answers={200: CheckAnswer},
        errors=(403, 404, 503),
    )
    async def post(self, request: web.Request, headers: OperatorHeaders, body: CheckBody) -> web.Response:
        tenant_asked(request, body.tenant_id)
        async with _reachable(self.app):
            verdict = await self.app.keeper.check(body.tenant_id, body.size_bytes, body.content_type)
        answer = CheckAnswer(
            allowed=verdict.allowed,
            reason=verdict.reason,
            current_usage_gb=gib(verdict.tenant_bytes),
            tenant_limit_gb=gib(verdict.tenant_limit_bytes),
            bucket_usage_gb=gib(verdict.bucket_bytes) if request[TENANT] == ALL_TENANTS else None,
        )
        return json_response(request, answer)


class CleanupView(Page):
    """POST /api/v1/storage/cleanup: delete expired objects and those beyond a limit. Needs no body.

    Without `target_free_gb`, tenants are reduced to their limit and the bucket to its target. Protected objects stay.
    """

    answer_seconds = CLEANUP_SECONDS

    @operation(
        "Clean up now",
        query=CleanupQuery,
        headers=OperatorHeaders,
        body=CleanupBody,
        answers={200: CleanupAnswer, 202: CleanupRunningAnswer},
        errors=(403, 409, 503),
        seconds=REQUEST_SECONDS,
    )
    async def post(
        self, request: web.Request, query: CleanupQuery, headers: OperatorHeaders, body: CleanupBody
    ) -> web.Response:
        if query.dry_run is not None:
            body = body.model_copy(update={"dry_run": query.dry_run})
        answer = await clean_up(self.app, request, body, headers.x_operator, self.answer_seconds)
        status = 202 if isinstance(answer, CleanupRunningAnswer) else 200
        return json_response(request, answer, status=status)


async def stats(app: ServedWorker, request: web.Request) -> StorageStatsAnswer:
    """Usage, limits and rules. Raises ApiError 403 for a tenant's token, 503 without Postgres."""
    operator_for(request)
    async with _reachable(app):
        held, state = await app.keeper.held(), await app.keeper.status()
    return stats_of(app.settings, held, state)


async def usage(app: ServedWorker, request: web.Request, tenant_id: str) -> UsageAnswer:
    """What one tenant holds. Raises ApiError 404 for another tenant, 503 without Postgres."""
    tenant_asked(request, tenant_id)
    async with _reachable(app):
        own = (await app.keeper.held()).get(account_of(tenant_id))
    limit = app.settings.s3_per_tenant_limit_gb
    used = gib(own.total_bytes) if own else 0.0
    return UsageAnswer(
        tenant_id=tenant_id,
        usage_gb=used,
        limit_gb=limit,
        usage_percent=round(100 * used / limit, 2),
        by_type=by_type(own),
        objects=own.total_objects if own else 0,
        last_updated=own.updated_at if own else None,
    )


async def clean_up(
    app: ServedWorker, request: web.Request, body: CleanupBody, operator: str, seconds: float = CLEANUP_SECONDS
) -> CleanupAnswer | CleanupRunningAnswer:
    """Clean up or, in a dry run, say what would go. After `seconds` it goes on without the caller.

    Raises ApiError 403 for a tenant's token, 409 while another one is under way, 422, 503.
    """
    operator_for(request)
    log.info("cleanup_requested", operator=operator, **body.model_dump(exclude={"dry_run"}), dry=body.dry_run)
    task = app.keeper.start_clean_up(aim_of(app.settings, body), dry_run=body.dry_run)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        return CleanupRunningAnswer(see=STATS)
    async with _reachable(app):
        return _cleaned(task.result())


def aim_of(settings: Settings, body: CleanupBody) -> Aim:
    """The request as an `Aim` for the planner. Raises ApiError 422 if it asks for more room than there is."""
    if body.target_free_gb is None:
        return Aim("manual", body.content_type)
    if body.target_free_gb > settings.s3_total_limit_gb:
        problem = f"the whole bucket has {settings.s3_total_limit_gb:g} GB (S3_TOTAL_LIMIT_GB)"
        fault = {"in": "body", "name": "target_free_gb", "problem": problem}
        raise ApiError(422, "invalid_request", "correct what is named in details.faults", faults=[fault])
    target = settings.s3_total_limit_gb - body.target_free_gb
    return Aim("manual", body.content_type, round(target * 1024**3))


def _cleaned(report: Report) -> CleanupAnswer:
    left = report.total_bytes if report.dry_run else report.left_bytes
    return CleanupAnswer(
        deleted_count=report.deleted_count,
        freed_gb=gib(report.freed_bytes),
        duration_seconds=round(report.seconds, 3),
        dry_run=report.dry_run,
        freed=[
            Freed(content_type=kind, reason=reason, count=count, gb=gib(report.freed[kind, reason]))
            for (kind, reason), count in sorted(report.deleted.items())
        ],
        total_gb=gib(left),
        protected_gb={why: gib(size) for why, size in report.protected.items()},
        shortfall_gb=gib(report.shortfall_bytes),
    )


@asynccontextmanager
async def _reachable(app: ServedWorker) -> AsyncIterator[None]:
    """While Postgres or S3 is away, the page answers 503; while another clean-up is under way, 409."""
    try:
        async with app.readers.pulse.watched(app.keeper.give_up):
            yield
    except StorageBusy as fault:
        raise ApiError(409, "cleanup_running", f"{fault}; its effect is to be seen at {STATS}") from fault
    except AWAY as fault:
        metrics.RETRIES.labels(stage="storage").inc()
        log.error("storage_unavailable", error=repr(fault))
        away = "S3" if isinstance(fault, S3Error) else "Postgres"
        raise ApiError(503, "store_unavailable", f"{away} does not answer; see `vision doctor`") from fault
