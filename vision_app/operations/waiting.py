"""What a post in work waits for, as the worker that owns it and its tenant's budget tell over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from vision_app.demo.services import BUSY, Api
from vision_app.stores.posts import PostsReader, Row


@dataclass(frozen=True)
class Stuck:
    """A post that has been in work for a while. `media`: what the worker says of each, empty if it does not answer."""

    row: Row
    waits: str
    media: list[Mapping[str, Any]]

    @property
    def since(self) -> datetime:
        at: datetime = self.row["in_work_since"]
        return at

    def as_json(self) -> dict[str, Any]:
        names = ("tenant_id", "post_id", "trace_id", "status")
        seconds = round(time.time() - self.since.timestamp(), 1)
        about = {"since": self.since.isoformat(), "seconds": seconds, "waits_for": self.waits, "media": self.media}
        return {name: self.row[name] for name in names} | about


async def stuck(posts: PostsReader, api: Api, before: datetime, tenant_id: str | None, limit: int) -> list[Stuck]:
    """Posts in work since before a time, the oldest first. Raises what asyncpg raises."""
    rows = await posts.stuck(before, tenant_id, limit)
    return list(await asyncio.gather(*(_stuck(api, row) for row in rows)))


async def _stuck(api: Api, row: Row) -> Stuck:
    waits, media = await _state(api, row["tenant_id"], row["post_id"])
    return Stuck(row, waits or "nothing that is known: the worker no longer holds it open; replay its input", media)


async def waiting_for(api: Api, tenant_id: str, post_id: str) -> str:
    """In words; empty when the worker does not hold the post open or has finished it."""
    waits, _ = await _state(api, tenant_id, post_id)
    return waits


async def _state(api: Api, tenant_id: str, post_id: str) -> tuple[str, list[Mapping[str, Any]]]:
    """What a post waits for, and its media as its worker sees them."""
    path = f"/api/v1/vision/posts/{quote(post_id, safe='')}?tenant_id={quote(tenant_id, safe='')}"
    answer = await api.once(path)
    if answer is None or answer[0] in BUSY:
        return f"a worker: none answers at {api.url}; see `vision status`", []
    listed = list(answer[1].get("media", ()))
    media = [medium for medium in listed if medium.get("status") == "in_work"]
    if not media:
        return "", listed
    budget = await api.once(f"/api/v1/budget/{quote(tenant_id, safe='')}")
    oldest = min(medium["dispatched_ms"] for medium in media)
    since = f"sent out {time.time() - oldest / 1000:.0f} s ago"
    return f"{len(media)} of {len(listed)} media, {since}: {_why(budget[1] if budget else {})}", listed


def _why(budget: Mapping[str, Any]) -> str:
    if budget.get("paused"):
        return "the tenant is paused; `vision resume` lets it go on"
    if not budget.get("loaded", True):
        return "Postgres, which must tell what the tenant has spent today; see `vision doctor`"
    if not budget.get("waiting"):
        grants = budget.get("open_grants", 0)
        return f"{grants} call(s) of the tenant are granted and not settled: GigaChat, or its gate after an outage"
    spent = f"{budget['spent']} of {budget['limit']} tokens spent, {budget['reserved']} reserved"
    return f"the budget has {budget['waiting']} waiting tasks of the tenant ({spent}; next day {budget['reset_at']})"
