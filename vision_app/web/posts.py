"""What is known of a post: its row when there is a result, its live state while it is in work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import asyncpg
import structlog
from aiohttp import web

from vision_app.domain.posts import MediumState, PostRow
from vision_app.events import status_of
from vision_app.messages import Medium, MediumResult, key_of
from vision_app.stores.base import SinkUnavailable
from vision_app.telemetry import metrics

from .auth import tenant_asked
from .errors import ApiError, json_response
from .owner import from_owner
from .page import Page

log = structlog.get_logger(__name__)


class PostView(Page):
    """GET /api/v1/vision/posts/{post_id}[?tenant_id=…]: 200 with the result, 202 while in work, 404 otherwise."""

    async def get(self, request: web.Request, post_id: str) -> web.Response:
        tenant_id = tenant_asked(request, request.query.get("tenant_id"))
        rows = await _rows(self.app, post_id, tenant_id)
        if len(rows) > 1:
            raise ApiError(409, "ambiguous", "several tenants have a post of this id; add ?tenant_id=")
        row = rows[0] if rows else None
        if row is not None and row["status"] != "in_work":
            return json_response(request, result_of(row))
        tenant_id = row["tenant_id"] if row else tenant_id or self.app.settings.s3_default_tenant_id
        return await self._live(request, tenant_id, post_id)

    async def _live(self, request: web.Request, tenant_id: str, post_id: str) -> web.Response:
        table, key = self.app.posts, key_of(tenant_id, post_id)
        answer = await from_owner(self.app, table, key, request)
        if answer is not None:
            return answer
        stored = table.get(key)
        if stored is None:
            raise ApiError(404, "not_found", f"Vision analysis not found for post {post_id}")
        return json_response(request, live_state(PostRow.model_validate(stored)), status=202)


async def _rows(app: Any, post_id: str, tenant_id: str | None) -> list[Any]:
    try:
        return list(await app.readers.rows_of(post_id, tenant_id))
    except (SinkUnavailable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as fault:
        metrics.RETRIES.labels(stage="db").inc()
        log.error("Postgres cannot be read", error=repr(fault))
        raise ApiError(503, "store_unavailable", "Postgres does not answer; see `vision doctor`") from fault


def result_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as the API shows it."""
    data = row["data"] or {}
    classification = row["vision_classification"]
    if classification:
        described = {"is_meme": row["vision_is_meme"], "description": row["vision_description"]}
        classification = {**classification, **described}
    return {
        "post_id": row["post_id"],
        "tenant_id": row["tenant_id"],
        "status": row["status"],
        "analyzed_at": row["vision_analyzed_at"].isoformat() if row["vision_analyzed_at"] else None,
        "provider": row["vision_provider"],
        "simulated": bool(data.get("simulated")),
        "model": row["vision_model"],
        "tokens_used": row["vision_tokens_used"],
        "classification": classification,
        "ocr_text": row["vision_ocr_text"],
        "is_meme": row["vision_is_meme"],
        "media_count": row["album_size"] or 0,
        "s3_vision_keys": row["s3_vision_keys"],
        "s3_media_keys": row["s3_media_keys"],
        "vision_version": row["vision_version"],
        "features_hash": row["features_hash"],
        "post_trace_id": row["trace_id"],
        "in_work_since": row["in_work_since"].isoformat() if row["in_work_since"] else None,
        "enrichments": data.get("enrichments", []),
        "times": data.get("times", {}),
    }


def live_state(row: PostRow) -> dict[str, Any]:
    """What a post in work waits for, medium by medium."""
    return {
        "post_id": row.event.post_id,
        "tenant_id": row.event.tenant_id,
        "status": "in_work" if row.completed_ms is None else "completed",
        "opened_ms": row.opened_ms,
        "completed_ms": row.completed_ms,
        "post_trace_id": row.event.trace_id,
        "media": [_medium(row.media[medium.sha256], medium) for medium in row.event.media_files],
    }


def _medium(state: MediumState, medium: Medium) -> dict[str, Any]:
    result = MediumResult(medium=medium, outcome=None if state.in_work else state.outcome)
    return {
        "sha256": medium.sha256,
        "status": status_of(result),
        "dispatch": state.dispatch,
        "dispatched_ms": state.dispatched_ms,
    }
