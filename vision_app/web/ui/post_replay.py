"""Replaying a post: first what would be sent and what it may cost, then, with a name and a reason, the replay."""

from __future__ import annotations

from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, Field

from vision_app.web.auth import operator_for
from vision_app.web.errors import ApiError
from vision_app.web.models import Id
from vision_app.web.operation import operation
from vision_app.web.post_replay import REPLAY_SECONDS, PostReplayBody, replay_post

from .base import UiPage, see_other
from .post_texts import EFFECT_TEXTS, STATUS_TEXTS
from .render import render
from .tenants import Who, Why

Checkbox = Literal["", "on"]


class PostReplayQuery(BaseModel):
    tenant_id: Id
    post_id: Id
    force: Checkbox = ""


class PostReplayForm(PostReplayQuery):
    """`tokens_at_most` is what the preview said. If it costs more by now, the preview is shown again."""

    who: Who
    reason: Why
    tokens_at_most: Annotated[int, Field(ge=0)]


class PostReplayView(UiPage):
    """/ui/post/replay: the preview, and the replay."""

    @operation("What a replay of a post would do", query=PostReplayQuery, answers={}, seconds=REPLAY_SECONDS + 5)
    async def get(self, request: web.Request, query: PostReplayQuery) -> web.Response:
        return await self._preview(request, query)

    async def post(self, request: web.Request) -> web.Response:
        operator_for(request)
        form = await self.form(request, PostReplayForm)
        body = PostReplayBody(
            tenant_id=form.tenant_id,
            force=form.force == "on",
            dry_run=False,
            tokens_at_most=form.tokens_at_most,
            reason=form.reason,
        )
        try:
            await replay_post(self.app, request, form.post_id, body, form.who)
        except ApiError as fault:
            if fault.code != "costs_more":
                raise
            return await self._preview(request, form, dearer=True)
        return see_other("/ui/post", tenant_id=form.tenant_id, post_id=form.post_id, done="replay")

    async def _preview(self, request: web.Request, asked: PostReplayQuery, *, dearer: bool = False) -> web.Response:
        body = PostReplayBody(tenant_id=asked.tenant_id, force=asked.force == "on")
        return render(
            request,
            "post_replay.html",
            plan=await replay_post(self.app, request, asked.post_id, body, "page"),
            dearer=dearer,
            status_texts=STATUS_TEXTS,
            effect_texts=EFFECT_TEXTS,
        )
