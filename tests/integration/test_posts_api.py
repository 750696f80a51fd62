"""The posts part of the API on a real worker: its list, timelines, thumbnails and changes, and whose they are."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest
from PIL import Image

from tests.api_document import faults
from tests.integration.pipeline import Pipeline, Worker, picture, unique
from vision_app.messages import Medium
from vision_app.operations.neighbours import never_uploaded
from vision_app.web.server import SHUTDOWN_SECONDS

MINE, THEIRS = unique("mine"), unique("theirs")
WORKER = {"VISION_API_TOKENS": f"operator=*,mine={MINE},theirs={THEIRS}"}


class Api:
    def __init__(self, client: httpx.AsyncClient, document: Any) -> None:
        self.client, self._document = client, document

    async def get(self, path: str, caller: str, of: str | None = None, **query: Any) -> Any:
        answer = await self.client.get(path, params=query, headers={"Authorization": f"Bearer {caller}"})
        assert faults(self._document, of or path, "get", answer.status_code, answer.json()) == []
        return answer.json() if answer.is_success else answer.status_code

    @asynccontextmanager
    async def changes(self, caller: str, **headers: str) -> AsyncIterator[AsyncIterator[tuple[str, str, Any]]]:
        """Events as (kind, id, data), from when the worker listens."""
        given = {"Authorization": f"Bearer {caller}", **headers}
        async with self.client.stream("GET", "/api/v1/changes", headers=given, timeout=60) as answer:
            assert answer.status_code == 200
            yield _events(answer)


async def _events(answer: httpx.Response) -> AsyncIterator[tuple[str, str, Any]]:
    found: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            found[name] = value
        elif "event" in found:
            yield found["event"], found["id"], orjson.loads(found["data"])
            found = {}


@pytest.fixture
async def api(worker: Worker, pipe: Pipeline) -> AsyncIterator[Api]:
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:
        yield Api(client, (await client.get("/openapi.json")).json())


@pytest.fixture
async def published(pipe: Pipeline) -> tuple[str, Medium]:
    """A post with a picture, one that is missing, and one that the policy skips."""
    post_id, since = unique("post"), await pipe.newest()
    shown = await pipe.upload(MINE, picture())
    media = [shown, never_uploaded(MINE, post_id), never_uploaded(MINE, f"{post_id}-zip", "application/zip")]
    await pipe.publish(MINE, post_id, media)
    await pipe.announced([post_id], since)
    return post_id, shown


async def test_a_published_post_is_listed_and_found_by_what_is_seen_on_it(
    api: Api, published: tuple[str, Medium]
) -> None:
    post_id, shown = published
    body = await api.get("/api/v1/posts", "mine", status="partial")
    [post] = [post for post in body["posts"] if post["post_id"] == post_id]
    assert (post["picture_count"], post["sha256"][0], post["tokens_used"] > 0) == (3, shown.sha256, True)
    assert post["reasons"] == ["s3_missing", "unsupported_mime"]
    word = max(post["description"].split(), key=len).strip(".,")
    assert post_id in [one["post_id"] for one in (await api.get("/api/v1/posts", "mine", q=word))["posts"]]
    assert (await api.get("/api/v1/posts", "theirs", q=word))["posts"] == []
    assert await api.get("/api/v1/posts", "theirs", tenant_id=MINE) == 404


async def test_pages_lead_to_every_post(api: Api, published: tuple[str, Medium], pipe: Pipeline) -> None:
    names = [unique("more") for _ in range(5)]
    since = await pipe.newest()
    for name in names:
        await pipe.publish(MINE, name, [never_uploaded(MINE, name)])
    await pipe.announced(names, since)
    found: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = await api.get("/api/v1/posts", "mine", **query)
        found += [post["post_id"] for post in page["posts"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert {*names, published[0]} <= set(found)
    assert len(set(found)) == len(found)


async def test_a_timeline_has_the_whole_way_and_every_reason(api: Api, published: tuple[str, Medium]) -> None:
    post_id, shown = published
    path, of = f"/api/v1/posts/{post_id}/timeline", "/api/v1/posts/{post_id}/timeline"
    body = await api.get(path, "mine", of)
    assert [stage["stage"] for stage in body["stages"] if stage["medium"] is None] == [
        "way_in", "policy", "posts", "complete", "store",
    ]  # fmt: skip
    own = [stage for stage in body["stages"] if stage["medium"] == shown.sha256]
    assert [stage["stage"] for stage in own] == ["preflight", "budget", "call", "answer", "collect"]
    assert 0 < sum(stage["duration_ms"] for stage in own) <= body["total_ms"]
    causes = [medium["explanation"] and medium["explanation"]["cause"] for medium in body["media"]]
    assert causes == [None, "object_missing", "policy"]
    assert await api.get(path, "theirs", of) == 404


async def test_a_thumbnail_is_made_from_the_stored_object(api: Api, published: tuple[str, Medium]) -> None:
    _, shown = published
    url = f"/api/v1/media/{shown.sha256}/thumbnail"
    answer = await api.client.get(url, params={"size": 48}, headers={"Authorization": "Bearer mine"})
    assert answer.status_code == 200
    assert max(Image.open(io.BytesIO(answer.content)).size) <= 48
    again = {"Authorization": "Bearer mine", "If-None-Match": answer.headers["ETag"]}
    assert (await api.client.get(url, params={"size": 48}, headers=again)).status_code == 304
    theirs = {**again, "Authorization": "Bearer theirs"}
    assert (await api.client.get(url, params={"size": 48}, headers=theirs)).status_code == 404


async def test_changes_are_told_to_their_tenant_as_they_happen_and_after_an_interruption(
    api: Api, pipe: Pipeline
) -> None:
    first, second, foreign = unique("first"), unique("second"), unique("foreign")
    async with asyncio.timeout(60), api.changes("mine") as mine, api.changes("theirs") as theirs:
        kind, place, _ = await anext(mine)
        assert kind == "ready"
        assert (await anext(theirs))[0] == "ready"
        for tenant, post_id in ((MINE, first), (MINE, second), (THEIRS, foreign)):
            since = await pipe.newest()
            await pipe.publish(tenant, post_id, [never_uploaded(tenant, post_id)])
            await pipe.announced([post_id], since)
        told = [await anext(mine), await anext(mine)]
        assert [(kind, body["post_id"], body["status"]) for kind, _, body in told] == [
            ("change", first, "skipped"),
            ("change", second, "skipped"),
        ]
        assert (await anext(theirs))[2]["post_id"] == foreign
    async with asyncio.timeout(60), api.changes("mine", **{"Last-Event-ID": told[0][1]}) as resumed:
        kind, _, body = await anext(resumed)
        assert (kind, body["post_id"]) == ("change", second)
    assert place < told[0][1]


async def test_an_open_stream_does_not_delay_the_workers_stop(api: Api, worker: Worker) -> None:
    """The last test of this module: the worker ends."""
    async with asyncio.timeout(60), api.changes("operator") as events:
        assert (await anext(events))[0] == "ready"
        stopping = asyncio.create_task(asyncio.to_thread(worker.stop))
        assert [event async for event in events] == [], "a whole answer, not one that was cut off"
        assert await stopping < SHUTDOWN_SECONDS
