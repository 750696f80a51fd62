"""The HTTP API over real rows: filters, pages, media and totals; every answer is held against the served document."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.api_document import faults
from tests.integration.pipeline import Pipeline, Worker, picture, unique
from vision_app.messages import Medium
from vision_app.operations.neighbours import never_uploaded

MINE, THEIRS = unique("mine"), unique("theirs")
WORKER = {"VISION_API_TOKENS": f"operator=*,mine={MINE},theirs={THEIRS}"}


@dataclass
class Posts:
    """Published once for all tests here: three posts of one tenant, one of another, with pictures in common."""

    meme: Medium
    document: Medium
    shared: Medium
    theirs: Medium
    missing: Medium


_posts: list[Posts] = []


@pytest.fixture
async def posts(pipe: Pipeline) -> Posts:
    if not _posts:
        _posts.append(await _publish(pipe))
    return _posts[0]


async def _publish(pipe: Pipeline) -> Posts:
    content = picture()
    meme, document = await pipe.upload(MINE, "meme_cat.jpg"), await pipe.upload(MINE, "document_act.png")
    posts = Posts(
        meme, document, await pipe.upload(MINE, content), await pipe.upload(THEIRS, content), never_uploaded(MINE, "x")
    )
    listed = {"first": [meme], "second": [document, meme], "third": [posts.shared], "skipped": [posts.missing]}
    since = await pipe.newest()
    for name, media in listed.items():  # one after the other, so that their order is known
        await pipe.publish(MINE, f"{name}-{MINE}", media)
        await pipe.announced([f"{name}-{MINE}"], since)
    await pipe.publish(THEIRS, f"only-{THEIRS}", [posts.theirs])
    await pipe.announced([f"only-{THEIRS}"], since)
    return posts


class Api:
    """Asks as one tenant, or as the operator, and holds every answer against the document."""

    def __init__(self, client: httpx.AsyncClient, document: Mapping[str, Any]) -> None:
        self._client, self._document = client, document

    async def get(self, path: str, caller: str = "operator", *, of: str | None = None, **query: Any) -> Any:
        answer = await self._client.get(path, params=query, headers={"Authorization": f"Bearer {caller}"})
        body = answer.json()
        assert faults(self._document, of or path, "get", answer.status_code, body) == []
        assert answer.headers["X-Trace-ID"] == body["trace_id"]
        return body if answer.is_success else answer.status_code

    async def names(self, caller: str = "mine", **query: Any) -> list[str]:
        body = await self.get("/api/v1/vision/posts", caller, **query)
        return [result["post_id"].partition("-")[0] for result in body["results"]]


@pytest.fixture
async def api(worker: Worker, posts: Posts) -> AsyncIterator[Api]:
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:
        document = (await client.get("/openapi.json")).json()
        assert document["openapi"] == "3.1.0"
        yield Api(client, document)


async def test_posts_are_listed_newest_first_and_skipped_ones_are_not(api: Api) -> None:
    body = await api.get("/api/v1/vision/posts", "mine")
    assert [result["post_id"].partition("-")[0] for result in body["results"]] == ["third", "second", "first"]
    assert (body["total"], body["page"], body["page_size"]) == (3, 1, 50)
    times = [result["analyzed_at"] for result in body["results"]]
    assert times == sorted(times, reverse=True)
    assert {result["tenant_id"] for result in body["results"]} == {MINE}


async def test_pages_are_parts_of_the_list(api: Api) -> None:
    assert await api.names(page=1, page_size=2) == ["third", "second"]
    assert await api.names(page=2, page_size=2) == ["first"]
    beyond = await api.get("/api/v1/vision/posts", "mine", page=3, page_size=2)
    assert (beyond["results"], beyond["total"]) == ([], 3)


async def test_filters(api: Api) -> None:
    channel = (await api.get("/api/v1/vision/posts", "mine"))["results"][0]["channel_id"]
    assert await api.names(channel_id=channel or "none") == (["third", "second", "first"] if channel else [])
    assert await api.names(channel_id="another") == []
    assert await api.names(has_meme=True) == ["second", "first"], "any picture of the post counts"
    assert await api.names(has_meme=False) == ["third"]
    assert await api.names(provider="gigachat") == ["third", "second", "first"]
    assert await api.names(provider="ocr") == await api.names(provider="ocr_fallback") == []
    second = (await api.get("/api/v1/vision/posts", "mine"))["results"][1]["analyzed_at"]
    assert await api.names(analyzed_after=second) == ["third"]
    assert await api.names("operator", tenant_id=THEIRS) == ["only"]
    assert {"only", "third"} <= set(await api.names("operator", page_size=100))


async def test_a_tenant_lists_its_own_posts_only(api: Api) -> None:
    assert await api.names("theirs") == ["only"]
    assert await api.get("/api/v1/vision/posts", "theirs", tenant_id=MINE) == 404
    assert await api.get("/api/v1/vision/posts", "wrong") == 401


async def test_one_post(api: Api) -> None:
    of = "/api/v1/vision/posts/{post_id}"
    shown = await api.get(f"/api/v1/vision/posts/second-{MINE}", "mine", of=of)
    assert (shown["media_count"], len(shown["enrichments"])) == (2, 2)
    assert shown["classification"]["type"] == shown["enrichments"][0]["analysis"]["classification"]
    skipped = await api.get(f"/api/v1/vision/posts/skipped-{MINE}", "mine", of=of)
    assert (skipped["status"], skipped["enrichments"][0]["reason"]) == ("skipped", "s3_missing")
    assert await api.get(f"/api/v1/vision/posts/second-{MINE}", "theirs", of=of) == 404


async def test_a_medium_is_its_tenants_own(api: Api, posts: Posts) -> None:
    of = "/api/v1/vision/media/{sha256}"
    assert posts.shared.sha256 == posts.theirs.sha256
    url = f"/api/v1/vision/media/{posts.shared.sha256}"
    mine, theirs = await api.get(url, "mine", of=of), await api.get(url, "theirs", of=of)
    assert (mine["s3_key"], theirs["s3_key"]) == (posts.shared.s3_key, posts.theirs.s3_key)
    assert (mine["posts"], theirs["posts"]) == ([f"third-{MINE}"], [f"only-{THEIRS}"])
    assert await api.get(url, of=of) == 409
    assert (await api.get(url, of=of, tenant_id=THEIRS))["tenant_id"] == THEIRS
    assert await api.get(f"/api/v1/vision/media/{posts.meme.sha256}", "theirs", of=of) == 404
    assert await api.get("/api/v1/vision/media/unknown", of=of) == 404


async def test_a_medium_shows_what_was_seen_on_itself(api: Api, posts: Posts) -> None:
    of = "/api/v1/vision/media/{sha256}"
    meme = await api.get(f"/api/v1/vision/media/{posts.meme.sha256}", "mine", of=of)
    assert (meme["vision_classification"], meme["is_meme"], meme["provider"]) == ("meme", True, "gigachat")
    assert (meme["mime_type"], meme["size_bytes"]) == ("image/jpeg", posts.meme.size_bytes)
    assert set(meme["posts"]) == {f"first-{MINE}", f"second-{MINE}"}
    document = await api.get(f"/api/v1/vision/media/{posts.document.sha256}", "mine", of=of)
    assert (document["vision_classification"], document["is_meme"]) == ("document", False)
    missing = await api.get(f"/api/v1/vision/media/{posts.missing.sha256}", "mine", of=of)
    assert (missing["vision_classification"], missing["analyzed_at"]) == (None, None)


async def test_totals(api: Api) -> None:
    mine = await api.get("/api/v1/vision/stats", "mine")
    assert (mine["total_analyzed"], mine["memes_count"]) == (3, 2)
    assert mine["by_provider"] == {"gigachat": 3, "ocr": 0, "cached": 0}
    assert sum(mine["by_type"].values()) == 3
    spent = (await api.get(f"/api/v1/budget/{MINE}", "mine", of="/api/v1/budget/{tenant}"))["spent"]
    assert mine["tokens"] == {"total": spent, "average": round(spent / 3, 1)}
    everyone = await api.get("/api/v1/vision/stats")
    assert everyone["total_analyzed"] >= 4
    nobody = await api.get("/api/v1/vision/stats", tenant_id=unique("nobody"))
    assert (nobody["total_analyzed"], nobody["tokens"], nobody["by_type"]) == (0, {"total": 0, "average": 0}, {})


async def test_every_page_of_the_worker_is_in_the_document(worker: Worker) -> None:
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:
        document = (await client.get("/openapi.json")).json()
        for path in ("/healthz", "/readyz"):
            answer = await client.get(path)
            assert faults(document, path, "get", answer.status_code, answer.json()) == []
        for path in ("/table/", "/router/", "/stats/", "/graph/", "/performance/"):
            assert (await client.get(path, headers={"Authorization": "Bearer operator"})).status_code == 404
