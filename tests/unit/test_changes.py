"""The stream of changes on a stream in memory: who is told what, slow readers, resuming, limits, the worker's stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from redis.exceptions import ConnectionError as RedisAway

from tests.fakes import until
from tests.samples import analyzed, missing, post
from tests.unit.test_budget import TENANT
from tests.unit.test_web import TOKENS, Worker
from tests.web_app import application
from vision_app.events import announcement, redis_fields
from vision_app.messages import Deferred, Failed
from vision_app.settings import load_settings
from vision_app.web.changes import ENTRIES, MOST_REPLAYED, QUEUE_LENGTH, Change, ChangeTail, Listener, Told

T = 1_700_000_000_000
URL = "/api/v1/changes"
DEFERRED = Deferred(reason="budget", retry_at=datetime(2026, 11, 23, tzinfo=UTC), details={})


class Stream:
    """As much of Redis as the tail uses: its clock, and one stream."""

    def __init__(self) -> None:
        self.entries: list[tuple[tuple[int, int], dict[bytes, bytes]]] = []
        self.away, self.closed, self.reads = False, False, 0

    def add(self, outcomes: list[Any], tenant: str = TENANT, post_id: str = "p", **fields: Any) -> str:
        event_type, body = announcement(post(outcomes, tenant=tenant, post_id=post_id))
        return self.add_raw({name: text.encode() for name, text in redis_fields(event_type, body).items()})

    def add_raw(self, fields: dict[str, bytes]) -> str:
        place = (T + 1000 + len(self.entries), 0)
        self.entries.append((place, {name.encode(): value for name, value in fields.items()}))
        return f"{place[0]}-{place[1]}"

    async def time(self) -> tuple[int, int]:
        self._answer()
        return T // 1000, 0

    async def xrange(self, name: str, *, min: str, max: str, count: int) -> list[Any]:
        self._answer()
        self.reads += 1
        first = (0, 0) if min == "-" else tuple(map(int, min[1:].split("-")))
        found = [(place, fields) for place, fields in self.entries if place > first]
        return [(f"{at}-{number}".encode(), fields) for (at, number), fields in found[:count]]

    async def aclose(self) -> None:
        self.closed = True

    def _answer(self) -> None:
        if self.away:
            raise RedisAway("away")


class Served(Worker):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.settings = load_settings(vision_api_tokens=f"every=*,mine={TENANT}", **settings)
        self.stream = Stream()
        self.changes = ChangeTail(self.settings, self.stream, poll_seconds=0.01, retry_seconds=0.01)  # type: ignore[arg-type]  # a fake


@pytest.fixture
def worker() -> Served:
    return Served()


@asynccontextmanager
async def served(worker: Served) -> AsyncIterator[TestClient[Any, Any]]:
    async with TestClient(TestServer(application(worker.settings, worker))) as client:
        yield client
        worker.should_stop = True
    await worker.changes.close()


class Reader:
    """One connection that reads events."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def block(self) -> dict[str, str]:
        """The next lines up to an empty one, by field; a comment has the field ""."""
        found: dict[str, str] = {}
        async with asyncio.timeout(10):
            while line := (await self.answer.content.readline()).decode():
                if line == "\n":
                    return found
                name, _, value = line.rstrip("\n").partition(":")
                found[name] = value.strip()
        raise EOFError

    async def event(self) -> dict[str, str]:
        while "event" not in (found := await self.block()):
            pass
        return found

    async def change(self) -> tuple[str, str, str]:
        while (found := await self.event())["event"] != "change":
            pass
        body = orjson.loads(found["data"])
        assert set(body) == {"tenant_id", "post_id", "status", "at"}
        return body["tenant_id"], body["post_id"], body["status"]


@asynccontextmanager
async def reading(
    client: TestClient[Any, Any], caller: str = "own", query: str = "", **headers: str
) -> AsyncIterator[Reader]:
    async with client.get(URL + query, headers={**TOKENS[caller], **headers}) as answer:
        assert answer.status == 200, await answer.text()
        yield Reader(answer)


async def test_a_listener_is_told_of_posts_that_end_from_then_on(worker: Served) -> None:
    async with served(worker) as client, reading(client) as reader:
        assert reader.answer.content_type == "text/event-stream"
        assert reader.answer.headers["Cache-Control"] == "no-store"
        assert (await reader.event())["event"] == "ready"
        for outcomes, status in (
            ([analyzed()], "ok"),
            ([analyzed(), missing()], "partial"),
            ([missing()], "skipped"),
            ([DEFERRED], "deferred"),
            ([Failed(reason="undecodable", details={})], "error"),
        ):
            worker.stream.add(outcomes, post_id=status)
            assert await reader.change() == (TENANT, status, status)


async def test_another_tenants_changes_are_not_told_not_even_on_resuming(worker: Served) -> None:
    first = worker.stream.add([missing()], post_id="first")
    worker.stream.add([missing()], tenant="another", post_id="secret")
    async with served(worker) as client:
        async with reading(client, **{"Last-Event-ID": first}) as reader:
            await until(lambda: worker.changes.place != "")
            worker.stream.add([missing()], tenant="another", post_id="secret-2")
            worker.stream.add([missing()], post_id="own")
            assert await reader.change() == (TENANT, "own", "skipped")
        async with client.get(f"{URL}?tenant_id=another", headers=TOKENS["own"]) as answer:
            assert answer.status == 404
        async with client.get(URL) as answer:
            assert answer.status == 401
        async with reading(client, "all", "?tenant_id=another", **{"Last-Event-ID": first}) as reader:
            assert (await reader.change())[1] == "secret"


async def test_after_an_interruption_nothing_is_left_out_or_told_twice(worker: Served) -> None:
    places = [worker.stream.add([missing()], post_id=f"p{number}") for number in range(2 * ENTRIES + 3)]
    async with served(worker) as client, reading(client, **{"Last-Event-ID": places[0]}) as reader:
        worker.stream.add([missing()], post_id="live")
        told = [(await reader.change())[1] for _ in range(len(places))]
    assert told == [f"p{number}" for number in range(1, len(places))] + ["live"]


async def test_what_is_no_longer_kept_or_too_much_is_a_resync(worker: Served) -> None:
    places = [worker.stream.add([missing()]) for _ in range(MOST_REPLAYED + ENTRIES)]
    async with served(worker) as client:
        for place in (f"{T}-0", places[0]):
            async with reading(client, **{"Last-Event-ID": place}) as reader:
                assert (await reader.event())["event"] == "resync"


@pytest.mark.parametrize("place", ["x", "1", "1-", "-1-0", "1-0\t2"])
async def test_a_wrong_place_is_refused(worker: Served, place: str) -> None:
    async with served(worker) as client, client.get(URL, headers={**TOKENS["own"], "Last-Event-ID": place}) as answer:
        assert answer.status == 422


def test_a_full_queue_becomes_one_resync() -> None:
    listener = Listener(None)
    change = Change("1-0", "t", "p", "ok", DEFERRED.retry_at)
    for _ in range(QUEUE_LENGTH + 1):
        listener.tell(Told("change", "1-0", change))
    assert listener.queue.qsize() == 1
    assert listener.queue.get_nowait().kind == "resync"


async def test_all_listeners_share_one_reader_and_without_any_nothing_is_read(worker: Served) -> None:
    async with served(worker) as client:
        async with reading(client) as one, reading(client, "all") as other:
            await one.event()
            await other.event()
            worker.stream.add([missing()], post_id="shared")
            assert await one.change() == await other.change()
            assert worker.changes.listeners == 2
            assert worker.changes.reading
        await until(lambda: not worker.changes.listeners)
        await until(lambda: not worker.changes.reading)
        reads = worker.stream.reads
        await asyncio.sleep(0.05)  # several turns of a reader
        assert worker.stream.reads == reads


async def test_entries_that_are_not_our_announcements_are_passed_over(worker: Served) -> None:
    async with served(worker) as client, reading(client) as reader:
        await reader.event()
        for data in (b"", b"{", b"[]", b"5", b'{"tenant_id": 5, "post_id": "p"}', b"\xff", b'{"enrichments": [1]}'):
            worker.stream.add_raw({"data": data})
        worker.stream.add_raw({"other": b"1"})
        long = {"event_type": "posts.vision.skipped", "tenant_id": TENANT, "post_id": "p" * 257}
        worker.stream.add_raw({"data": orjson.dumps(long)})
        worker.stream.add([missing()], post_id="good\nid: 1-1\nevent: resync")
        assert (await reader.change())[1] == "good\nid: 1-1\nevent: resync"


async def test_while_redis_is_away_a_comment_says_so_and_changes_follow(
    worker: Served,
) -> None:
    worker.stream.away = True
    async with served(worker) as client, reading(client) as reader:
        while "Redis does not answer" not in (await reader.block()).get("", ""):
            pass
        worker.stream.away = False
        assert (await reader.event())["event"] == "ready"
        worker.stream.away = True
        worker.stream.add([missing()], post_id="meanwhile")
        worker.stream.away = False
        assert (await reader.change())[1] == "meanwhile"


async def test_streams_are_limited_per_worker_and_per_caller() -> None:
    worker = Served(vision_api_change_streams=4)
    async with served(worker) as client:
        async with reading(client), reading(client) as last:
            async with client.get(URL, headers=TOKENS["own"]) as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (429, "10")
            async with reading(client, "all") as other:
                await other.event()
            await last.event()
        await until(lambda: not worker.changes.listeners)
        async with reading(client) as again:
            await again.event()


async def test_streams_never_take_more_than_half_of_the_connections() -> None:
    worker = Served(vision_api_change_streams=100, vision_api_max_connections=2)
    async with served(worker) as client, reading(client), client.get(URL, headers=TOKENS["all"]) as answer:
        assert answer.status == 429


async def test_a_stream_ends_soon_after_the_worker_begins_to_stop(worker: Served) -> None:
    async with served(worker) as client, reading(client) as reader:
        await reader.event()
        worker.should_stop = True
        async with asyncio.timeout(5):
            assert b"event: change" not in await reader.answer.content.read(), "to its end"


async def test_a_stream_outlasts_the_limit_of_other_requests() -> None:
    worker = Served(vision_api_timeout_seconds=0.05)
    async with served(worker) as client, reading(client) as reader:
        await reader.event()
        await asyncio.sleep(0.2)  # longer than that limit
        worker.stream.add([missing()], post_id="late")
        assert (await reader.change())[1] == "late"


async def test_a_stream_for_some_seconds_ends_by_itself(worker: Served) -> None:
    async with served(worker) as client, reading(client, query="?seconds=1") as reader:
        async with asyncio.timeout(10):
            assert b"event: ready" in await reader.answer.content.read(), "to its end"
