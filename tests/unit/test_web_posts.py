"""Posts of every status over the API, without a broker or a store: what is refused, pages, whose posts they are."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from tests.unit.test_budget import TENANT
from tests.unit.test_web import TOKENS, Worker, served
from vision_app.stores.post_search import Place, PostFilter
from vision_app.web.cursors import decode_place, encode_place

POSTS = "/api/v1/posts"
AT = datetime(2026, 11, 22, 12, 0, 0, 123456, UTC)
SHA = "a" * 64


def found(post_id: str = "p", **more: Any) -> dict[str, Any]:
    """A row as `post_search.search` gives it."""
    media = [{"sha256": SHA, "mime_type": "image/png", "size_bytes": 7, "status": "analyzed"}]
    return {
        "tenant_id": TENANT,
        "post_id": post_id,
        "trace_id": "t-1",
        "channel_id": "c",
        "status": "ok",
        "in_work_since": None,
        "analyzed_at": AT,
        "updated_at": AT,
        "kind": "meme",
        "labels": ["cat"],
        "description": "A cat",
        "tokens_used": 900,
        "album_size": 1,
        "error": None,
        "media": media,
        "seen": {SHA: "meme"},
        **more,
    }


WRONG = [
    ("cursor=x", "cursor"),
    ("cursor=%25%25%25%25", "cursor"),
    ("cursor=W10", "cursor"),
    ("cursor=", "cursor"),
    ("limit=0", "limit"),
    ("limit=101", "limit"),
    ("status=done", "status"),
    ("after=2026", "after"),
    ("q=", "q"),
    ("q=a%00b", "q"),
    ("q=" + "x" * 501, "q"),
    ("label=%00", "label"),
    ("page=2", "page"),
]


@pytest.mark.parametrize(("query", "name"), WRONG)
async def test_a_wrong_parameter_is_named(query: str, name: str) -> None:
    async with served(Worker()) as client:
        status, body = await client.ask("GET", f"{POSTS}?{query}")
    assert (status, body["error"]["details"]["faults"][0]["name"]) == (422, name)


PLACES = ["2026-11-22T12:00:00", "yesterday", 5]


@pytest.mark.parametrize("at", PLACES)
def test_a_cursor_with_another_time_is_none(at: Any) -> None:
    text = base64.urlsafe_b64encode(orjson.dumps([at, "t", "p"])).decode().rstrip("=")
    with pytest.raises(ValueError, match="not a cursor"):
        decode_place(text)


def test_a_cursor_holds_its_place_to_the_microsecond() -> None:
    place = Place(AT, "тенант", "p:1/2?")
    assert decode_place(encode_place(place)) == place


async def test_a_page_has_a_cursor_only_if_there_are_more_posts() -> None:
    worker = Worker()
    worker.found = [found("p3"), found("p2"), found("p1")]
    async with served(worker) as client:
        _, body = await client.ask("GET", f"{POSTS}?limit=2")
        assert [post["post_id"] for post in body["posts"]] == ["p3", "p2"]
        assert worker.searched[1:] == (None, 3)
        worker.found = [found("p1")]
        _, last = await client.ask("GET", f"{POSTS}?limit=2&cursor={body['next_cursor']}")
    assert worker.searched[1:] == (Place(AT, TENANT, "p2"), 3)
    assert (len(last["posts"]), last["next_cursor"]) == (1, None)


async def test_filters_reach_the_store_as_meant() -> None:
    worker = Worker()
    query = "channel_id=c&status=deferred&reason=budget&kind=meme&label=cat&after=2026-11-22T12:00:00&q=кот"
    async with served(worker) as client:
        assert (await client.ask("GET", f"{POSTS}?{query}&tenant_id=x"))[0] == 200
    after = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert worker.searched[0] == PostFilter("x", "c", "deferred", "budget", "meme", "cat", after, None, "кот")


async def test_why_media_have_no_analysis_is_shown_in_short() -> None:
    reset = "2026-11-23T00:00:00+00:00"
    media = [
        {"sha256": "1", "status": "deferred", "reason": "budget", "details": {"deferred": True, "reset_at": reset}},
        {"sha256": "2", "status": "skipped", "reason": "policy", "details": {"policy_name": "unsupported_mime"}},
        {"sha256": "2", "status": "skipped", "reason": "policy", "details": {"policy_name": "unsupported_mime"}},
        {"sha256": "3", "status": "failed", "reason": "undecodable", "details": None},
        {"sha256": "4", "status": "in_work", "reason": "in_work", "details": {}},
        {},
    ]
    worker = Worker()
    worker.found = [found(status="deferred", media=media, seen={}, album_size=None, tokens_used=None)]
    async with served(worker) as client:
        _, body = await client.ask("GET", POSTS)
    [post] = body["posts"]
    assert post["reasons"] == ["budget", "unsupported_mime", "undecodable"]
    assert datetime.fromisoformat(post["deferred_until"]) == datetime.fromisoformat(reset)
    assert (post["picture_count"], post["tokens_used"], post["sha256"]) == (6, 0, ["1", "2", "3", "4", ""])


async def test_a_tenants_token_lists_its_own_posts_only() -> None:
    worker = Worker()
    async with served(worker, vision_api_tokens=f"every=*,mine={TENANT}") as client:
        assert (await client.ask("GET", f"{POSTS}?tenant_id=another", headers=TOKENS["own"]))[0] == 404
        assert not hasattr(worker, "searched")
        for query in ("", f"?tenant_id={TENANT}", f"?cursor={encode_place(Place(AT, 'another', 'p'))}"):
            assert (await client.ask("GET", POSTS + query, headers=TOKENS["own"]))[0] == 200
            assert worker.searched[0].tenant_id == TENANT
        assert (await client.ask("GET", POSTS, headers=TOKENS["all"]))[0] == 200
        assert worker.searched[0].tenant_id is None
        assert (await client.ask("GET", POSTS))[0] == 401


async def test_without_postgres_the_list_says_so() -> None:
    worker = Worker()
    worker.postgres = False
    async with served(worker) as client:
        assert (await client.ask("GET", POSTS))[0] == 503
