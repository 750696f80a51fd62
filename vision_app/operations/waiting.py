"""What a post in work waits for, according to the worker that owns it and its tenant's budget, over HTTP.

Also whether a deferred post still has its place in the queue: a lost ledger does not know it.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from vision_app.operations.api import BUSY, Api
from vision_app.stores.posts import PostsReader, Row
from vision_app.texts import noted, say

DEFERRED_LOOKED_AT = 10_000
"""How many deferred posts, the oldest first, are looked for in their tenants' queues."""
RECHECK_SECONDS = 2.0
"""A post that is in no queue may just have been analyzed; its row shows that after this time."""
FORGOTTEN = noted(
    "nothing: it was deferred, but its tenant's ledger does not know of it (was it lost?); the worker asks about it "
    "again within some minutes, `vision replay --post` does so at once"
)


@dataclass(frozen=True)
class Stuck:
    """A post that has been in work for a while, or deferred and forgotten.

    `media`: the worker's view of each medium, empty if it does not answer.
    """

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


async def stuck(
    posts: PostsReader,
    api: Api,
    before: datetime,
    tenant_id: str | None,
    limit: int,
    recheck_seconds: float = RECHECK_SECONDS,
) -> list[Stuck]:
    """Posts in work since before a time, and those deferred before it that no queue holds; the oldest first.

    Raises what asyncpg raises.
    """
    rows = await posts.stuck(before, tenant_id, limit)
    found = list(await asyncio.gather(*(_stuck(api, row) for row in rows)))
    found += [Stuck(row, FORGOTTEN, []) for row in await forgotten(posts, api, before, tenant_id, recheck_seconds)]
    return sorted(found, key=lambda one: one.since)[:limit]


async def forgotten(
    posts: PostsReader,
    api: Api,
    before: datetime,
    tenant_id: str | None = None,
    recheck_seconds: float = RECHECK_SECONDS,
) -> list[Row]:
    """Posts deferred before a time that their tenants' ledgers do not know. Raises what asyncpg raises.

    Posts of a tenant whose queue cannot be read (no worker answers, the ledger is not loaded) are left out.
    """
    suspects = await _in_no_queue(api, await posts.deferred(before, tenant_id, DEFERRED_LOOKED_AT))
    if not suspects:
        return []
    await asyncio.sleep(recheck_seconds)
    still = await posts.deferred(before, tenant_id, DEFERRED_LOOKED_AT)
    named = {(row["tenant_id"], row["post_id"]) for row in await _in_no_queue(api, still)}
    return [row for row in suspects if (row["tenant_id"], row["post_id"]) in named]


async def _in_no_queue(api: Api, rows: list[Row]) -> list[Row]:
    queues = {tenant: await _queue(api, tenant) for tenant in {row["tenant_id"] for row in rows}}
    return [row for row in rows if (queue := queues[row["tenant_id"]]) is not None and row["post_id"] not in queue]


async def _queue(api: Api, tenant_id: str) -> set[str] | None:
    """The posts that wait in a tenant's ledger or have a grant; None if the ledger cannot be read now."""
    path, posts, start = f"/api/v1/budget/{quote(tenant_id, safe='')}", set[str](), 0
    state = await api.once(path)
    if state is None or state[0] != HTTPStatus.OK or (state[1]["known"] and not state[1]["loaded"]):
        return None
    while True:
        page = await api.once(f"{path}/parked?start={start}&count=1000")
        if page is None or page[0] != HTTPStatus.OK:
            return None
        posts |= {task["post_id"] for task in page[1]["tasks"]} | set(page[1].get("granted", ()))
        if page[1]["next_start"] is None:
            return posts
        start = page[1]["next_start"]


async def _stuck(api: Api, row: Row) -> Stuck:
    waits, media = await _state(api, row["tenant_id"], row["post_id"])
    return Stuck(
        row, waits or say("nothing that is known: the worker no longer holds it open; replay its input"), media
    )


async def waiting_for(api: Api, tenant_id: str, post_id: str) -> str:
    """In words; empty when the worker does not hold the post open or has finished it."""
    waits, _ = await _state(api, tenant_id, post_id)
    return waits


async def _state(api: Api, tenant_id: str, post_id: str) -> tuple[str, list[Mapping[str, Any]]]:
    """What a post waits for, and its media as its worker sees them."""
    path = f"/api/v1/vision/posts/{quote(post_id, safe='')}?tenant_id={quote(tenant_id, safe='')}"
    answer = await api.once(path)
    if answer is None or answer[0] in BUSY:
        return say("a worker: none answers at {url}; see `vision status`", url=api.url), []
    listed = list(answer[1].get("media", ()))
    media = [medium for medium in listed if medium.get("status") == "in_work"]
    if not media:
        return "", listed
    budget = await api.once(f"/api/v1/budget/{quote(tenant_id, safe='')}")
    oldest = min(medium["dispatched_ms"] for medium in media)
    since = say("sent out {seconds:.0f} s ago", seconds=time.time() - oldest / 1000)
    return say(
        "{media_count} of {listed_count} media, {since}: {why}",
        media_count=len(media),
        listed_count=len(listed),
        since=since,
        why=_why(tenant_id, budget[1] if budget else {}),
    ), listed


async def deferral(api: Api, tenant_id: str, media: Sequence[Mapping[str, Any]]) -> str:
    """Until when and by which budget a post is deferred, and how to let it go on; "" if none of its media is.

    `media`: those in its row.
    """
    found = [details for medium in media if (details := medium.get("details") or {}).get("deferred")]
    if not found:
        return ""
    first, whose = found[0], shlex.quote(tenant_id)
    budget = await api.once(f"/api/v1/budget/{quote(tenant_id, safe='')}")
    if budget is not None and budget[1].get("paused"):
        return say("deferred, and the tenant is paused; `vision resume {whose}` lets it go on", whose=whose)
    figures = ""
    if {"spent", "limit", "estimated_tokens"} <= first.keys():
        figures = say(
            " ({spent} of {limit} tokens were spent, this picture may cost {estimated_tokens})",
            spent=first["spent"],
            limit=first["limit"],
            estimated_tokens=first["estimated_tokens"],
        )
    until = first.get("reset_at", say("the next UTC day"))
    return say(
        "deferred until {until} by the daily budget of tenant {tenant_id}{figures}; then it goes on by "
        "itself. At once: `vision budget set LIMIT {whose}` raises the limit, `vision budget reset "
        "{whose}` sets what was spent to zero; `vision budget show {whose}` shows both",
        until=until,
        tenant_id=tenant_id,
        figures=figures,
        whose=whose,
    )


def reason_of(medium: Mapping[str, Any]) -> str:
    """Why a medium of a row was not analyzed, with the rule if it was the policy; "" if there is no reason."""
    details = medium.get("details") or {}
    reason = str(medium.get("reason") or "")
    if details.get("policy_name"):
        return f"{reason}: {details['policy_name']}"
    return (
        say("{reason}, until {reset_at}", reason=reason, reset_at=details["reset_at"])
        if details.get("deferred") and "reset_at" in details
        else reason
    )


def _why(tenant_id: str, budget: Mapping[str, Any]) -> str:
    if not budget.get("known", True):
        return say("preflight; or its ledger was lost: the worker asks about it again within some minutes")
    if budget.get("paused"):
        return say("the tenant is paused; `vision resume {whose}` lets it go on", whose=shlex.quote(tenant_id))
    if not budget.get("loaded", True):
        return say("Postgres, which must tell what the tenant has spent today; see `vision doctor`")
    if not budget.get("waiting"):
        grants = budget.get("open_grants", 0)
        return say(
            "{grants} call(s) of the tenant are granted and not settled: GigaChat, or its gate after an outage",
            grants=grants,
        )
    spent = say(
        "{spent} of {limit} tokens spent, {reserved} reserved",
        spent=budget["spent"],
        limit=budget["limit"],
        reserved=budget["reserved"],
    )
    return say(
        "the budget has {waiting} waiting tasks of the tenant ({spent}; next day {reset_at})",
        waiting=budget["waiting"],
        spent=spent,
        reset_at=budget["reset_at"],
    )
