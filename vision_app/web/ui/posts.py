"""Posts: searched by words and filters, and one post with its pictures, answers, reasons and timeline."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, Field

from vision_app.stores.post_actions import PostReplays
from vision_app.stores.post_search import FoundStatus
from vision_app.stores.posts import Row
from vision_app.web.auth import ALL_TENANTS, TENANT, tenant_asked
from vision_app.web.cursors import PostCursor
from vision_app.web.dead_letter_models import LettersQuery, ListedDeadLetter
from vision_app.web.dead_letters import letters
from vision_app.web.errors import ApiError
from vision_app.web.models import Id, PostAnswer
from vision_app.web.operation import check, operation
from vision_app.web.post_models import PostSearchQuery
from vision_app.web.post_now import post_now
from vision_app.web.post_search import search_posts
from vision_app.web.posts import result_of, tenant_of_post
from vision_app.web.thumbnails import ThumbnailQuery, thumbnail
from vision_app.web.timeline import timeline_of, timeline_without_row

from .base import UiPage, paging
from .post_now import is_open, live, row_or_away
from .post_texts import CAUSE_TEXTS, STAGE_TEXTS, STATUS_TEXTS
from .render import asset, render

Short = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]
SHOWN = 25
STATUSES: tuple[FoundStatus, ...] = ("ok", "partial", "skipped", "deferred", "in_work", "error")


class PostsQuery(BaseModel):
    """The form's fields; an empty one is left out."""

    q: Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")] = ""
    tenant_id: Short = ""
    channel_id: Short = ""
    status: FoundStatus | Literal[""] = ""
    reason: Short = ""
    kind: Short = ""
    label: Short = ""
    after: Short = ""
    before: Short = ""
    cursor: PostCursor | None = None


class PostQuery(BaseModel):
    tenant_id: Id | None = None
    post_id: Id
    done: Literal["replay"] | None = None


class PictureQuery(ThumbnailQuery):
    sha256: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00]*$")]


class PictureView(UiPage):
    """GET /ui/picture: the thumbnail of a picture, or a sign that there is none (deleted, undecodable, away)."""

    @operation("A small picture", query=PictureQuery, answers={})
    async def get(self, request: web.Request, query: PictureQuery) -> web.Response:
        tenant_asked(request, query.tenant_id)
        try:
            return await thumbnail(self.app, request, query.sha256, query)
        except ApiError as fault:
            if fault.status == 429:
                raise
            headers = {"Cache-Control": "no-store"}
            return web.Response(body=asset("no-picture.svg"), content_type="image/svg+xml", headers=headers)


class PostsView(UiPage):
    """GET /ui/posts: posts of every status."""

    @operation("Posts", query=PostsQuery, answers={})
    async def get(self, request: web.Request, query: PostsQuery) -> web.Response:
        kept = {name: value for name, value in query.model_dump(exclude={"cursor"}).items() if value}
        asked = check("query", PostSearchQuery, {**kept, "cursor": query.cursor, "limit": SHOWN})
        found = await search_posts(self.app, request, asked)
        return render(
            request,
            "posts.html",
            found=found,
            query=query,
            filtered=bool(kept),
            statuses=STATUSES,
            status_texts=STATUS_TEXTS,
            **paging("/ui/posts", kept, query.cursor, found.next_cursor),
        )


class PostView(UiPage):
    """GET /ui/post: one post, with why it has no result if it has none."""

    @operation("A post", query=PostQuery, answers={})
    async def get(self, request: web.Request, query: PostQuery) -> web.Response:
        row, away = await row_or_away(self.app, request, query.post_id, query.tenant_id)
        tenant = row["tenant_id"] if row else tenant_of_post(self.app, request, query.tenant_id)
        if away:
            now = await post_now(self.app, request, tenant, query.post_id)
            return render(request, "post_unstored.html", **live(now, None))
        try:
            if row is not None:
                timeline = await timeline_of(self.app, request, row)
            else:
                timeline = await timeline_without_row(self.app, request, tenant, query.post_id)
        except ApiError as fault:
            if fault.status != 404:
                raise
            found = await self._letters(request, query.tenant_id, query.post_id)
            feature_on = self.app.settings.feature_vision_enabled
            return render(request, "post_unknown.html", 404, query=query, letters=found, feature_on=feature_on)
        result = result_of(row) if row is not None else None
        unsure = timeline.status in ("error", "in_work")
        moves = row is None or is_open(row) or timeline.status == "deferred" or query.done is not None
        shown = live(await post_now(self.app, request, tenant, query.post_id), row) if moves else {"where": None}
        return render(
            request,
            "post.html",
            post=timeline,
            result=result,
            seen=_analyses(result),
            letters=await self._letters(request, tenant, query.post_id) if unsure else [],
            replays=await self._replays(request, tenant, query.post_id) if row is not None else [],
            replayable=row is not None,
            done=query.done,
            cause_texts=CAUSE_TEXTS,
            stage_texts=STAGE_TEXTS,
            **{"status_texts": STATUS_TEXTS, **shown},
        )

    async def _letters(self, request: web.Request, tenant: str | None, post_id: str) -> list[ListedDeadLetter] | None:
        """The dead letters that name the post; None while Kafka does not answer."""
        try:
            found = await letters(self.app, request, LettersQuery(tenant_id=tenant, post_id=post_id, state="all"))
        except ApiError:
            return None
        return found.letters

    async def _replays(self, request: web.Request, tenant: str, post_id: str) -> list[Row] | None:
        """What operators did with the post; nothing for a tenant's session, None while Postgres is away."""
        if request[TENANT] != ALL_TENANTS:
            return []
        try:
            async with self.app.readers.pool_for_page() as pool:
                return await PostReplays(pool).of_post(tenant, post_id)
        except ApiError:
            return None


def _analyses(result: PostAnswer | None) -> dict[str, dict[str, Any]]:
    """What was seen on each picture, by sha256."""
    return {
        str(item.get("sha256")): item["analysis"]
        for item in (result.enrichments if result else [])
        if "analysis" in item
    }
