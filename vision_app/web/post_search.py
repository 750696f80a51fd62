"""Posts of every status: a page of those that fit a filter."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from vision_app.stores.post_search import Place, PostFilter, Row

from .auth import tenant_asked
from .cursors import decode_place, encode_place
from .errors import json_response
from .operation import operation
from .page import Page
from .post_models import ListedMedium, ListedPost, PostSearchAnswer, PostSearchQuery
from .worker import ServedWorker


class PostSearchView(Page):
    """GET /api/v1/posts: posts of every status, the one changed last first, by filters and by words on their pictures.

    A page is found by its place, not by counting: `next_cursor` leads to the next one. Posts that change meanwhile move
    to the front, so a post may be missed by a later page, and is never listed twice at the same `updated_at`.
    """

    @operation("Posts of every status", query=PostSearchQuery, answers={200: PostSearchAnswer}, errors=(503,))
    async def get(self, request: web.Request, query: PostSearchQuery) -> web.Response:
        return json_response(request, await search_posts(self.app, request, query))


async def search_posts(app: ServedWorker, request: web.Request, query: PostSearchQuery) -> PostSearchAnswer:
    """A page of the posts that the caller may see. Raises ApiError 404 for another tenant, 503 without Postgres."""
    wanted = PostFilter(
        tenant_id=tenant_asked(request, query.tenant_id),
        channel_id=query.channel_id,
        status=query.status,
        reason=query.reason,
        kind=query.kind,
        label=query.label,
        after=query.after,
        before=query.before,
        text=query.q,
    )
    behind = decode_place(query.cursor) if query.cursor else None
    async with app.readers.for_page() as reader:
        rows = await reader.search(wanted, behind, query.limit + 1)
    shown = rows[: query.limit]
    more = len(rows) > query.limit
    return PostSearchAnswer(
        posts=[_listed(row) for row in shown], next_cursor=encode_place(_place(shown[-1])) if more else None
    )


def _place(row: Row) -> Place:
    return Place(row["updated_at"], row["tenant_id"], row["post_id"])


def _listed(row: Row) -> ListedPost:
    media = [listed_medium(item, row["seen"].get(item.get("sha256"))) for item in row["media"]]
    until = [medium.deferred_until for medium in media if medium.deferred_until]
    return ListedPost(
        tenant_id=row["tenant_id"],
        post_id=row["post_id"],
        channel_id=row["channel_id"],
        post_trace_id=row["trace_id"],
        status=row["status"],
        in_work_since=row["in_work_since"],
        deferred_until=max(until, default=None),
        reasons=list(dict.fromkeys(medium.rule or medium.reason for medium in media if medium.reason)),
        kind=row["kind"],
        labels=row["labels"],
        description=row["description"],
        tokens_used=row["tokens_used"] or 0,
        error=row["error"],
        picture_count=row["album_size"] or len(media),
        sha256=list(dict.fromkeys(medium.sha256 for medium in media)),
        media=media,
        analyzed_at=row["analyzed_at"],
        updated_at=row["updated_at"],
    )


def listed_medium(item: Mapping[str, Any], kind: str | None) -> ListedMedium:
    """A medium of a row's `data.media`. `kind`: its classification."""
    details = item.get("details") or {}
    status = str(item.get("status") or "")
    return ListedMedium(
        sha256=str(item.get("sha256") or ""),
        mime_type=str(item.get("mime_type") or ""),
        size_bytes=int(item.get("size_bytes") or 0),
        status=status,
        kind=kind,
        reason=None if status == "in_work" else item.get("reason"),
        rule=details.get("policy_name"),
        deferred_until=deferred_until(details),
    )


def deferred_until(details: Mapping[str, Any]) -> datetime | None:
    """When the budget lets a medium go on; None if it does not wait for it."""
    if not details.get("deferred"):
        return None
    try:
        return datetime.fromisoformat(str(details.get("reset_at")))
    except ValueError:
        return None
