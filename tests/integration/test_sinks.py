"""One suite for all sinks: what every place that results are written to must hold, on the real services.

A harness says how to make a sink, how to make its records, and what the store shows of a post afterwards.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from random import randrange
from typing import Any

import pytest
from neo4j import AsyncGraphDatabase
from redis.asyncio import Redis

from tests.samples import AT_MS, again, analyzed, medium, post, unique
from vision_app import events
from vision_app.messages import Medium, PostResult
from vision_app.settings import Settings
from vision_app.stores.base import Rejected, Sink, SinkUnavailable
from vision_app.stores.keys import post_key
from vision_app.stores.neo4j import GraphSink
from vision_app.stores.post_documents import PostDocumentSink
from vision_app.stores.postgres import PostgresSink, create_pool
from vision_app.stores.redis_announcer import Announcement, RedisAnnouncer
from vision_app.stores.s3 import ObjectMissing, S3Store

NOWHERE = "127.0.0.1:1"

STRANGE_TEXTS = [
    "Ёжик в тумане – «привет», мир! 🦔 日本語",
    'O\'Reilly "quoted" \\ back\\slash %s %(x)s {0} $1',
    "'; DROP TABLE post_enrichment; --",
    "'}) DETACH DELETE p // \n MATCH (n) DETACH DELETE n",
    "before\0after",
    "\\u0000 is six characters",
    "line\r\nline\ttab \x1b[31m \u202e right to left",
]


class Harness:
    """Postgres, and what is common to the sinks of results."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def sink(self, settings: Settings) -> Sink[Any]:
        return PostgresSink(settings)

    def nowhere(self) -> dict[str, Any]:
        return {"database_url": f"postgresql://postgres@{NOWHERE}/postgres"}

    def record(self, result: PostResult) -> Any:
        return result

    def poison(self) -> Any:
        """A record that the store will never take."""
        return post().model_copy(update={"status": "a word that no constraint allows"})

    async def shown(self, result: PostResult) -> Any:
        """Everything the store shows of a post, without times of writing; None if nothing."""
        pool = await create_pool(self.settings, size=1)
        try:
            row = await pool.fetchrow("SELECT * FROM post_enrichment WHERE post_id = $1", result.event.post_id)
        finally:
            await pool.close()
        return row and {name: value for name, value in row.items() if name != "updated_at"}

    def description(self, shown: Any) -> str:
        return str(shown["vision_description"])


class S3Harness(Harness):
    def sink(self, settings: Settings) -> Sink[Any]:
        return PostDocumentSink(settings)

    def nowhere(self) -> dict[str, Any]:
        return {"s3_endpoint_url": f"http://{NOWHERE}"}

    def poison(self) -> Any:
        deep: Any = "bottom"
        for _ in range(300):
            deep = [deep]
        return post(deep=deep)

    async def shown(self, result: PostResult) -> Any:
        store = S3Store(self.settings)
        await store.open()
        try:
            return json.loads(await store.read(post_key(result.event.tenant_id, result.event.post_id), 1_000_000))
        except ObjectMissing:
            return None
        finally:
            await store.close()

    def description(self, shown: Any) -> str:
        return str(shown["enrichments"][0]["analysis"]["description"])


class GraphHarness(Harness):
    def sink(self, settings: Settings) -> Sink[Any]:
        return GraphSink(settings)

    def nowhere(self) -> dict[str, Any]:
        return {"neo4j_uri": f"bolt://{NOWHERE}"}

    def poison(self) -> Any:
        too_long_for_the_index = Medium.model_construct(sha256="x" * 40_000, s3_key="", mime_type="", size_bytes=1)
        result = post()
        return result.model_copy(
            update={"media": [result.media[0].model_copy(update={"medium": too_long_for_the_index})]}
        )

    async def shown(self, result: PostResult) -> Any:
        statement = """
            MATCH (p:Post {tenant_id: $tenant, post_id: $post})-[r:HAS_IMAGE]->(i:ImageContent)-[:HAS_LABEL]->(l:Label)
            RETURN properties(p) AS post, properties(r) AS link, properties(i) AS image, collect(l.name) AS labels"""
        auth = (self.settings.neo4j_user, self.settings.neo4j_password.get_secret_value())
        async with AsyncGraphDatabase.driver(self.settings.neo4j_uri, auth=auth) as driver:
            records, _, _ = await driver.execute_query(
                statement, tenant=result.event.tenant_id, post=result.event.post_id
            )
        return records[0].data() | {"labels": sorted(records[0]["labels"])} if records else None

    def description(self, shown: Any) -> str:
        return str(shown["image"]["description"])


class RedisHarness(Harness):
    def sink(self, settings: Settings) -> Sink[Any]:
        return RedisAnnouncer(settings)

    def nowhere(self) -> dict[str, Any]:
        return {"redis_url": f"redis://{NOWHERE}/0"}

    def record(self, result: PostResult) -> Any:
        return Announcement(*events.announcement(result))

    def poison(self) -> Any:
        return Announcement("posts.vision.analyzed", {"post_id": "p", "emission": "1-1"})

    async def shown(self, result: PostResult) -> Any:
        url = self.settings.redis_url.get_secret_value()
        async with Redis.from_url(url, decode_responses=True) as redis:
            entries = await redis.xrange(self.settings.vision_output_stream)
        bodies = [(entry, json.loads(fields["data"])) for entry, fields in entries]
        return [(entry, body) for entry, body in bodies if body["post_id"] == result.event.post_id] or None

    def description(self, shown: Any) -> str:
        return str(shown[-1][1]["vision"]["description"]).replace("\0", "")


HARNESSES = {"postgres": Harness, "s3": S3Harness, "neo4j": GraphHarness, "redis": RedisHarness}


@pytest.fixture(params=HARNESSES)
def harness(request: pytest.FixtureRequest, stack_settings: Settings) -> Harness:
    own = {"vision_output_stream": unique("stream:test")}
    return HARNESSES[request.param](stack_settings.model_copy(update=own))


@pytest.fixture
async def sink(harness: Harness) -> AsyncIterator[Sink[Any]]:
    sink = harness.sink(harness.settings)
    await sink.open()
    yield sink
    await sink.close()


async def test_writing_twice_changes_nothing(harness: Harness, sink: Sink[Any]) -> None:
    result = post()
    record = harness.record(result)
    assert list(await sink.write([record])) == [record]
    before = await harness.shown(result)
    assert list(await sink.write([record])) == [record], "a redelivered record is still in force"
    assert before is not None
    assert await harness.shown(result) == before


async def test_an_older_emission_changes_nothing_and_is_left_out(harness: Harness, sink: Sink[Any]) -> None:
    newer = post([analyzed("новое")], emission=(AT_MS, 5))
    await sink.write([harness.record(newer)])
    before = await harness.shown(newer)
    for emission in ((AT_MS, 4), (AT_MS - 1, 9)):
        older = again(newer, [analyzed("старое")], emission)
        assert list(await sink.write([harness.record(older)])) == []
    assert await harness.shown(newer) == before


async def test_a_newer_emission_replaces(harness: Harness, sink: Sink[Any]) -> None:
    first = post([analyzed("старое")])
    await sink.write([harness.record(first)])
    for emission, text in (((AT_MS, 10), "десять"), ((AT_MS + 1, 0), "позже")):
        second = harness.record(again(first, [analyzed(text)], emission))
        assert list(await sink.write([second])) == [second]
        assert harness.description(await harness.shown(first)) == text


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
async def test_within_a_batch_the_larger_emission_stays(
    harness: Harness, sink: Sink[Any], order: tuple[int, int]
) -> None:
    base = post()
    batch = [again(base, [analyzed(f"состояние {number}")], (AT_MS, number)) for number in order]
    written = await sink.write([harness.record(result) for result in batch])
    assert harness.record(max(batch, key=lambda result: result.emission.offset)) in written
    assert harness.description(await harness.shown(base)) == "состояние 2"


async def test_a_batch_of_many_posts_is_written_whole_and_in_order(harness: Harness, sink: Sink[Any]) -> None:
    tenant = unique("tenant")
    batch = [post([analyzed(f"пост {number}")], tenant=tenant) for number in range(25)]
    assert list(await sink.write([harness.record(r) for r in batch])) == [harness.record(r) for r in batch]
    for number in (0, 24):
        assert harness.description(await harness.shown(batch[number])) == f"пост {number}"


async def test_an_empty_batch_is_nothing(sink: Sink[Any]) -> None:
    assert list(await sink.write([])) == []


async def test_tenants_with_the_same_post_id_stay_apart(harness: Harness, sink: Sink[Any]) -> None:
    one, other = post([analyzed("первый")], tenant=unique("a:b")), post([analyzed("второй")], tenant=unique("a"))
    await sink.write([harness.record(one), harness.record(again(other, [analyzed("второй")], (AT_MS - 5, 0)))])
    twin = post([analyzed("чужой")], tenant=other.event.tenant_id, post_id=one.event.post_id, emission=(AT_MS - 9, 0))
    assert len(await sink.write([harness.record(twin)])) == 1, "the other tenant's newer emission does not count"


async def test_a_store_that_is_down_is_unavailable(harness: Harness) -> None:
    sink = harness.sink(harness.settings.model_copy(update=_coerced(harness.nowhere())))
    with pytest.raises(SinkUnavailable, match=r"REDIS_URL|DATABASE_URL|NEO4J_URI|does not answer"):
        await sink.open()
    with pytest.raises(SinkUnavailable):
        await sink.write([harness.record(post())])
    await sink.close()


async def test_a_rejected_record_is_named_and_leaves_the_others_writable(harness: Harness, sink: Sink[Any]) -> None:
    good = [post(), post()]
    records = [harness.record(good[0]), harness.poison(), harness.record(good[1])]
    with pytest.raises(Rejected) as rejected:
        await sink.write(records)
    assert rejected.value.index == 1
    assert rejected.value.reason
    assert [await harness.shown(result) for result in good] == [None, None], "all or nothing"
    assert len(await sink.write([records[0], records[2]])) == 2


@pytest.mark.parametrize("text", STRANGE_TEXTS)
async def test_strange_texts_are_only_data(harness: Harness, sink: Sink[Any], text: str) -> None:
    result = post([analyzed(text)], trace_id=text, channel_id=text)
    await sink.write([harness.record(result)])
    assert harness.description(await harness.shown(result)) == text.replace("\0", "")


async def test_the_longest_identities_fit_everywhere(harness: Harness, sink: Sink[Any]) -> None:
    # four bytes a character, and nothing an index could compress
    tenant, post_id, sha256 = ("".join(chr(randrange(0x1F300, 0x1F5FF)) for _ in range(n)) for n in (256, 256, 128))
    listed = medium(sha256, s3_key="media/" + "k" * 1000, mime_type="x" * 5000, size_bytes=2**70, position=2**40)
    result = post(tenant=tenant, post_id=post_id, media=[listed], channel_id="c" * 5000)
    assert len(await sink.write([harness.record(result)])) == 1
    assert harness.description(await harness.shown(result)) == "Кот на окне"


async def test_a_closed_sink_opens_again(harness: Harness) -> None:
    for _ in range(2):
        sink = harness.sink(harness.settings)
        await sink.open()
        await sink.close()


def _coerced(update: dict[str, Any]) -> dict[str, Any]:
    """Settings are copied without validation, so secrets are wrapped as the fields want them."""
    types: dict[str, Any] = {name: field.annotation for name, field in Settings.model_fields.items()}
    return {name: types[name](value) if types[name] is not str else value for name, value in update.items()}
