"""Posts: their rows if there is a result, the live state of a post while it is in work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from vision_app.domain.posts import MediumState, PostRow
from vision_app.events import status_of
from vision_app.messages import Medium, MediumResult, key_of
from vision_app.stores.posts import Row, Wanted

from .auth import tenant_asked
from .errors import ApiError, json_response
from .models import (
    Classification,
    LiveMedium,
    LivePostAnswer,
    PostAnswer,
    PostListAnswer,
    PostPath,
    PostsQuery,
    TenantQuery,
)
from .operation import operation
from .owner import from_owner
from .page import Page
from .readers import only_row
from .worker import ServedWorker


class PostsView(Page):
    """GET /api/v1/vision/posts: analyzed posts, newest first, a page at a time."""

    @operation("Analyzed posts, newest first", query=PostsQuery, answers={200: PostListAnswer}, errors=(503,))
    async def get(self, request: web.Request, query: PostsQuery) -> web.Response:
        wanted = Wanted(
            tenant_id=tenant_asked(request, query.tenant_id),
            channel_id=query.channel_id,
            has_meme=query.has_meme,
            provider="ocr_fallback" if query.provider == "ocr" else query.provider,
            analyzed_after=query.analyzed_after,
        )
        offset = (query.page - 1) * query.page_size
        async with self.app.readers.for_page() as reader:
            rows, total = await reader.analyzed(wanted, offset=offset, limit=query.page_size)
        results = [result_of(row) for row in rows]
        answer = PostListAnswer(results=results, total=total, page=query.page, page_size=query.page_size)
        return json_response(request, answer)


class PostView(Page):
    """GET /api/v1/vision/posts/{post_id}: 200 with the result, 202 while the post is in work, 404 otherwise."""

    @operation(
        "The result of one post, or its live state",
        path=PostPath,
        query=TenantQuery,
        answers={200: PostAnswer, 202: LivePostAnswer},
        errors=(404, 409, 503),
    )
    async def get(self, request: web.Request, path: PostPath, query: TenantQuery) -> web.Response:
        row = await find_row(self.app, request, path.post_id, query.tenant_id)
        if row is not None and row["status"] != "in_work":
            return json_response(request, result_of(row))
        tenant_id = row["tenant_id"] if row else tenant_of_post(self.app, request, query.tenant_id)
        return await self._live(request, tenant_id, path.post_id)

    async def _live(self, request: web.Request, tenant_id: str, post_id: str) -> web.Response:
        table, key = self.app.posts, key_of(tenant_id, post_id)
        answer = await from_owner(self.app, table, key, request)
        if answer is not None:
            return answer
        row: PostRow | None = table.row(key)
        if row is None:
            raise ApiError(404, "not_found", f"Vision analysis not found for post {post_id}")
        return json_response(request, live_state(row), status=202)


async def find_row(app: ServedWorker, request: web.Request, post_id: str, tenant_id: str | None) -> Row | None:
    """The row of a post that the caller may see; None if there is none.

    Raises ApiError 404 for another tenant, 409 if several tenants have such a post, 503 without Postgres.
    """
    tenant_id = tenant_asked(request, tenant_id)
    async with app.readers.for_page() as reader:
        return only_row(await reader.get(post_id, tenant_id), "a post of this id")


def tenant_of_post(app: ServedWorker, request: web.Request, tenant_id: str | None) -> str:
    """The tenant of a post without a row: the caller's or the named one, else the default."""
    return tenant_asked(request, tenant_id) or app.settings.s3_default_tenant_id


def result_of(row: Mapping[str, Any]) -> PostAnswer:
    """The row as the API shows it."""
    data = row["data"] or {}
    classification = row["vision_classification"]
    described = {"is_meme": row["vision_is_meme"], "description": row["vision_description"]}
    return PostAnswer(
        post_id=row["post_id"],
        tenant_id=row["tenant_id"],
        channel_id=(row["metadata"] or {}).get("channel_id"),
        status=row["status"],
        analyzed_at=row["vision_analyzed_at"],
        provider=row["vision_provider"],
        simulated=bool(data.get("simulated")),
        model=row["vision_model"],
        tokens_used=row["vision_tokens_used"],
        classification=Classification(**{**classification, **described}) if classification else None,
        ocr_text=row["vision_ocr_text"],
        is_meme=row["vision_is_meme"],
        media_count=row["album_size"] or 0,
        s3_vision_keys=row["s3_vision_keys"],
        s3_media_keys=row["s3_media_keys"],
        expired=bool(row["expired_keys"]),
        expired_keys=row["expired_keys"],
        vision_version=row["vision_version"],
        features_hash=row["features_hash"],
        post_trace_id=row["trace_id"],
        in_work_since=row["in_work_since"],
        enrichments=data.get("enrichments", []),
        times=data.get("times", {}),
    )


def live_state(row: PostRow) -> LivePostAnswer:
    """What each medium of a post in work waits for."""
    return LivePostAnswer(
        post_id=row.event.post_id,
        tenant_id=row.event.tenant_id,
        status="in_work" if row.completed_ms is None else "completed",
        opened_ms=row.opened_ms,
        completed_ms=row.completed_ms,
        post_trace_id=row.event.trace_id,
        media=[_medium(row.media[medium.sha256], medium) for medium in row.event.media_files],
    )


def _medium(state: MediumState, medium: Medium) -> LiveMedium:
    result = MediumResult(medium=medium, outcome=None if state.in_work else state.outcome)
    return LiveMedium(
        sha256=medium.sha256,
        status=status_of(result),
        dispatch=state.dispatch,
        dispatched_ms=state.dispatched_ms,
    )
