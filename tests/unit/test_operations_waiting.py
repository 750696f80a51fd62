"""Which deferred posts are in no queue any more, and when that is unknown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from vision_app.operations import waiting
from vision_app.operations.waiting import FORGOTTEN, deferral, forgotten, reason_of, stuck

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
LOADED = {"known": True, "loaded": True}
NEW = {"known": False, "loaded": False}


def row(post: str, tenant: str = "t", minutes: int = 10) -> dict[str, Any]:
    since = NOW - timedelta(minutes=minutes)
    return {"tenant_id": tenant, "post_id": post, "trace_id": "x", "status": "skipped", "in_work_since": since}


class Posts:
    """Postgres. `looks`: the deferred posts at each query; the last one repeats."""

    def __init__(self, *looks: list[dict[str, Any]], in_work: tuple[dict[str, Any], ...] = ()) -> None:
        self.looks, self.in_work = list(looks), in_work

    async def deferred(self, before: datetime, tenant_id: str | None, limit: int) -> list[dict[str, Any]]:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    async def stuck(self, before: datetime, tenant_id: str | None, limit: int) -> list[dict[str, Any]]:
        return list(self.in_work)


class Api:
    """A worker: each tenant's ledger and queue, two tasks a page. A tenant that is not listed gets a 503."""

    url = "http://worker"

    def __init__(self, **tenants: tuple[dict[str, Any], list[str]]) -> None:
        self.tenants = tenants
        self.granted: list[str] = []

    async def once(self, path: str) -> tuple[int, dict[str, Any]] | None:
        tenant, _, query = path.removeprefix("/api/v1/budget/").partition("/parked")
        if tenant not in self.tenants:
            return 503, {}
        ledger, queue = self.tenants[tenant]
        if not query:
            return 200, ledger
        start = int(query.partition("start=")[2].partition("&")[0])
        tasks = [{"post_id": post} for post in queue[start : start + 2]]
        more = start + 2 if len(queue) > start + 2 else None
        return 200, {"tasks": tasks, "next_start": more, "granted": self.granted}


async def lost(posts: Posts, api: Api) -> list[str]:
    return [found["post_id"] for found in await forgotten(posts, api, NOW, recheck_seconds=0)]  # type: ignore[arg-type]  # answers without a network


async def test_a_deferred_post_that_no_queue_holds_is_found() -> None:
    posts = Posts([row("waits"), row("gone"), row("third page"), row("granted")])
    api = Api(t=(LOADED, ["waits", "a", "b", "c", "third page"]))
    api.granted = ["granted"]
    assert await lost(posts, api) == ["gone"]


async def test_a_tenant_without_a_ledger_has_forgotten_all() -> None:
    assert await lost(Posts([row("a"), row("b")]), Api(t=(NEW, []))) == ["a", "b"]


async def test_no_post_of_an_unreadable_queue_is_reported() -> None:
    assert await lost(Posts([row("a")]), Api()) == []
    assert await lost(Posts([row("a")]), Api(t=({"known": True, "loaded": False}, []))) == []


async def test_what_was_just_analyzed_is_not_forgotten() -> None:
    assert await lost(Posts([row("a"), row("b")], [row("b")]), Api(t=(LOADED, []))) == ["b"]


async def test_stuck_lists_them_beside_those_in_work_the_oldest_first() -> None:
    posts = Posts([row("gone", minutes=20)], in_work=(row("works", tenant="away", minutes=10),))
    found = await stuck(posts, Api(t=(LOADED, [])), NOW, None, 50, 0)  # type: ignore[arg-type]  # answers without a network
    assert [(one.row["post_id"], one.waits == FORGOTTEN) for one in found] == [("gone", True), ("works", False)]
    assert "vision replay --post" in FORGOTTEN
    assert found[0].as_json()["waits_for"] == FORGOTTEN
    assert len(await stuck(posts, Api(t=(LOADED, [])), NOW, None, 1, 0)) == 1  # type: ignore[arg-type]  # answers without a network


DEFERRED = {
    "status": "deferred",
    "reason": "budget",
    "details": {
        "deferred": True,
        "reset_at": "2026-11-27T00:00:00+00:00",
        "spent": 400,
        "limit": 500,
        "estimated_tokens": 300,
    },
}


async def test_a_deferral_names_its_end_its_budget_and_how_to_raise_it() -> None:
    said = await deferral(Api(), "my shop", [{"status": "analyzed"}, DEFERRED])  # type: ignore[arg-type]  # answers without a network
    assert said.startswith("deferred until 2026-11-27T00:00:00+00:00 by the daily budget of tenant my shop (400 of 500")
    assert "may cost 300" in said
    assert "`vision budget set LIMIT 'my shop'`" in said
    assert "`vision budget reset 'my shop'`" in said
    assert await deferral(Api(), "t", [{"status": "skipped", "reason": "policy"}]) == ""  # type: ignore[arg-type]  # as above


async def test_a_paused_tenant_is_named_in_the_command() -> None:
    api = Api(t=({**LOADED, "paused": True}, []))
    assert "`vision resume t`" in await deferral(api, "t", [DEFERRED])  # type: ignore[arg-type]  # answers without a network
    assert "`vision resume 'a b'`" in waiting._why("a b", {"paused": True})


def test_a_skip_by_the_policy_names_the_rule() -> None:
    skipped = {"status": "skipped", "reason": "policy", "details": {"policy_name": "unsupported_mime"}}
    assert reason_of(skipped) == "policy: unsupported_mime"
    assert reason_of(DEFERRED) == "budget, until 2026-11-27T00:00:00+00:00"
    assert reason_of({"status": "skipped", "reason": "s3_missing", "details": {"s3_key": "k"}}) == "s3_missing"
    assert reason_of({"status": "analyzed"}) == ""
