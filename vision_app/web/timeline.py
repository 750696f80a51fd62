"""The timeline of a post: its stages in milliseconds, and why its media have no result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import structlog
from aiohttp import web

from vision_app.operations.timeline import Surroundings, TimedStage, explain, stages_of, still_waits
from vision_app.stores.post_search import FoundStatus
from vision_app.stores.posts import Row

from .budget import budget
from .errors import ApiError, json_response
from .models import LiveMedium, PostPath, TenantQuery
from .operation import operation
from .page import Page
from .post_models import MediumExplanation, TimelineAnswer, TimelineMedium, TimelineStage
from .post_now import live_post
from .post_search import listed_medium
from .posts import find_row, tenant_of_post
from .worker import ServedWorker

log = structlog.get_logger(__name__)

FEATURE_OFF = "; FEATURE_VISION_ENABLED is false on this worker, so it takes no new posts"


class TimelineView(Page):
    """GET /api/v1/posts/{post_id}/timeline: where a post's time went, and why its media have no result.

    From the post's row; for media that still wait, also from the worker that owns the post, its tenant's budget and the
    services that are away now. A post of a version without times has no stages.
    """

    @operation(
        "Where a post's time went, and why media have no result",
        path=PostPath,
        query=TenantQuery,
        answers={200: TimelineAnswer},
        errors=(404, 409, 503),
    )
    async def get(self, request: web.Request, path: PostPath, query: TenantQuery) -> web.Response:
        return json_response(request, await post_timeline(self.app, request, path.post_id, query.tenant_id))


async def post_timeline(
    app: ServedWorker, request: web.Request, post_id: str, tenant_id: str | None = None
) -> TimelineAnswer:
    """The timeline of a post that the caller may see.

    Raises ApiError 404 if there is none, 409 if several tenants have one, 503 without Postgres.
    """
    row = await find_row(app, request, post_id, tenant_id)
    if row is None:
        return await timeline_without_row(app, request, tenant_of_post(app, request, tenant_id), post_id)
    return await timeline_of(app, request, row)


async def timeline_of(app: ServedWorker, request: web.Request, row: Row) -> TimelineAnswer:
    """The timeline of a post's row. What its media wait for is asked live, if any waits."""
    media = list((row["data"] or {}).get("media", ()))
    now = await _surroundings(app, request, row["tenant_id"]) if still_waits(media) else Surroundings()
    kinds = {
        item.get("sha256"): (item.get("analysis") or {}).get("classification")
        for item in (row["data"] or {}).get("enrichments", ())
    }
    stages = stages_of(row)
    return TimelineAnswer(
        tenant_id=row["tenant_id"],
        post_id=row["post_id"],
        post_trace_id=row["trace_id"],
        status=_status(row["status"], media),
        in_work_since=row["in_work_since"],
        stages=[TimelineStage(**asdict(stage)) for stage in stages],
        total_ms=_total_ms(stages),
        media=[_medium(item, kinds.get(item.get("sha256")), now) for item in _distinct(media)],
    )


async def timeline_without_row(app: ServedWorker, request: web.Request, tenant_id: str, post_id: str) -> TimelineAnswer:
    """The timeline of a post that only the worker that owns it knows. Raises ApiError 404 if it does not, 503."""
    live = await live_post(app, request, tenant_id, post_id)
    if live is None:
        off = "" if app.settings.feature_vision_enabled else FEATURE_OFF
        raise ApiError(
            404,
            "not_found",
            f"nothing is known of post {post_id} yet: `vision trace` also looks into Redis and Kafka{off}",
            feature_vision_enabled=app.settings.feature_vision_enabled,
        )
    now = await _surroundings(app, request, tenant_id)
    return TimelineAnswer(
        tenant_id=tenant_id,
        post_id=post_id,
        post_trace_id=live.post_trace_id,
        status="in_work",
        in_work_since=None,
        stages=[],
        total_ms=None,
        media=[_medium(_as_item(medium), None, now) for medium in live.media],
    )


def _as_item(medium: LiveMedium) -> dict[str, Any]:
    """Its outcome is shown from the row, which is not written yet."""
    return {"sha256": medium.sha256, "status": medium.status if medium.status in ("analyzed", "partial") else "in_work"}


async def _surroundings(app: ServedWorker, request: web.Request, tenant_id: str) -> Surroundings:
    """What media of the tenant may wait for. While its ledger cannot be asked, only what this worker itself knows."""
    paused, told = False, None
    try:
        ledger = await budget(app, request, tenant_id)
        paused = ledger.paused
        if ledger.waiting:
            told = f"{ledger.waiting} tasks of the tenant wait for its budget or a slot"
    except ApiError as fault:
        log.info("budget_not_asked", tenant_id=tenant_id, reason=fault.code)
        told = "its budget cannot be asked now"
    return Surroundings(paused, told, app.waiting_for(), app.settings.feature_vision_enabled)


def _medium(item: Mapping[str, Any], kind: str | None, now: Surroundings) -> TimelineMedium:
    why = explain(item, now)
    return TimelineMedium(
        **listed_medium(item, kind).model_dump(),
        provider=item.get("provider"),
        model=item.get("model"),
        tokens_billed=int(item.get("tokens_billed") or 0),
        cached=item.get("cached"),
        explanation=None if why is None else MediumExplanation(**asdict(why)),
    )


def _distinct(media: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({item.get("sha256"): item for item in reversed(media)}.values())[::-1]


def _status(status: FoundStatus, media: list[dict[str, Any]]) -> FoundStatus:
    """As `post_search` shows it."""
    deferred = any((item.get("details") or {}).get("deferred") for item in media)
    return "deferred" if deferred and status == "skipped" else status


def _total_ms(stages: list[TimedStage]) -> int | None:
    return max(one.started_ms + one.duration_ms for one in stages) - stages[0].started_ms if stages else None
