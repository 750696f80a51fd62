"""Where a post is now: the part of its document that changes, and a document of it alone while Postgres is away."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode

from aiohttp import web
from pydantic import BaseModel, Field

from vision_app.stores.posts import Row
from vision_app.web.errors import ApiError
from vision_app.web.models import Id
from vision_app.web.operation import operation
from vision_app.web.post_models import PostNowAnswer
from vision_app.web.post_now import post_now
from vision_app.web.posts import find_row
from vision_app.web.worker import ServedWorker

from .base import UiPage
from .post_texts import PLACE_TEXTS, STATUS_TEXTS
from .render import render


class PostNowQuery(BaseModel):
    """`shown`: the version of the row that the document around this part shows."""

    tenant_id: Id
    post_id: Id
    shown: Annotated[str, Field(max_length=40)] = ""


class PostNowPart(UiPage):
    """GET /ui/post/now: where the post is now. If its row is new and finished, the document is to be loaded anew."""

    @operation("Where a post is now", query=PostNowQuery, answers={})
    async def get(self, request: web.Request, query: PostNowQuery) -> web.Response:
        row, _ = await row_or_away(self.app, request, query.post_id, query.tenant_id)
        now = await post_now(self.app, request, query.tenant_id, query.post_id)
        ended = row is not None and not is_open(row) and version_of(row) != query.shown
        return render(request, "post_now_part.html", where=now, reload=ended, **texts())


async def row_or_away(
    app: ServedWorker, request: web.Request, post_id: str, tenant_id: str | None
) -> tuple[Row | None, bool]:
    """The post's row, and whether Postgres is away so that it cannot be known."""
    try:
        return await find_row(app, request, post_id, tenant_id), False
    except ApiError as fault:
        if fault.status != HTTPStatus.SERVICE_UNAVAILABLE:
            raise
        return None, True


def is_open(row: Row) -> bool:
    """Whether a post is in work, for the first time or again."""
    return row["status"] == "in_work" or row["in_work_since"] is not None


def version_of(row: Row | None) -> str:
    return row["updated_at"].isoformat() if row is not None else ""


def live(now: PostNowAnswer, row: Row | None) -> dict[str, Any]:
    """What a document needs to contain the part."""
    of = {"tenant_id": now.tenant_id, "post_id": now.post_id}
    return {
        "where": now,
        "reload": False,
        "now_path": f"/ui/post/now?{urlencode({**of, 'shown': version_of(row)})}",
        "changes_path": f"/api/v1/changes?{urlencode(of)}",
        **texts(),
    }


def texts() -> dict[str, Any]:
    return {"place_texts": PLACE_TEXTS, "status_texts": STATUS_TEXTS}
