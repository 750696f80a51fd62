"""Storage: whether the bucket is about to fill, who fills it, and what a clean-up would delete."""

from __future__ import annotations

from typing import Literal

from aiohttp import web
from pydantic import BaseModel

from vision_app.web.auth import ALL_TENANTS, TENANT, operator_for
from vision_app.web.operation import operation
from vision_app.web.storage import REQUEST_SECONDS, clean_up, stats, usage
from vision_app.web.storage_models import CleanupBody

from .base import UiPage, see_other
from .render import render
from .tenants import Who, Why


class StorageQuery(BaseModel):
    done: Literal["", "started"] = ""


class CleanupForm(BaseModel):
    who: Who
    reason: Why


class StorageView(UiPage):
    """GET /ui/storage: fill levels by type and tenant against the limits."""

    @operation("Storage", query=StorageQuery, answers={})
    async def get(self, request: web.Request, query: StorageQuery) -> web.Response:
        if request[TENANT] != ALL_TENANTS:
            own = await usage(self.app, request, request[TENANT])
            return render(request, "storage_own.html", own=own)
        return render(request, "storage.html", found=await stats(self.app, request), done=query.done)


class CleanupView(UiPage):
    """/ui/storage/cleanup: what a clean-up would delete now, and, after confirmation, the clean-up."""

    @operation("What a clean-up would delete", answers={}, seconds=REQUEST_SECONDS)
    async def get(self, request: web.Request) -> web.Response:
        operator_for(request)
        preview = await clean_up(self.app, request, CleanupBody(dry_run=True), "page")
        return render(request, "storage_cleanup.html", preview=preview)

    async def post(self, request: web.Request) -> web.Response:
        operator_for(request)
        form = await self.form(request, CleanupForm)
        await clean_up(self.app, request, CleanupBody(), f"{form.who} ({form.reason})")
        return see_other("/ui/storage", done="started")
