"""What only the graph and only the announcer promise, on the real services."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from neo4j import AsyncDriver, AsyncGraphDatabase
from redis.asyncio import Redis

from tests.oracles import VisionAnalyzedEventV1, VisionSkippedEventV1
from tests.samples import AT, AT_MS, again, analysis, analyzed, medium, missing, post, unique
from vision_app import events
from vision_app.messages import PostResult
from vision_app.settings import Settings
from vision_app.stores.base import Rejected, SinkUnavailable
from vision_app.stores.neo4j import GraphSink
from vision_app.stores.redis_announcer import (
    EMITTED_TTL_SECONDS,
    PROCESSED_TTL_SECONDS,
    Announcement,
    RedisAnnouncer,
    emitted_key,
    processed_key,
)


@pytest.fixture
async def graph(stack_settings: Settings) -> AsyncIterator[AsyncDriver]:
    auth = (stack_settings.neo4j_user, stack_settings.neo4j_password.get_secret_value())
    async with AsyncGraphDatabase.driver(stack_settings.neo4j_uri, auth=auth) as driver:
        yield driver


@pytest.fixture
async def sink(stack_settings: Settings) -> AsyncIterator[GraphSink]:
    sink = GraphSink(stack_settings)
    await sink.open()
    yield sink
    await sink.close()


async def rows(graph: AsyncDriver, query: str, **parameters: Any) -> list[dict[str, Any]]:
    records, _, _ = await graph.execute_query(query, parameters)
    return [record.data() for record in records]


async def test_posts_images_and_labels_are_found_as_in_the_guide(sink: GraphSink, graph: AsyncDriver) -> None:
    result = post([missing(), analyzed()])
    await sink.write([result])
    found = await rows(
        graph,
        "MATCH (p:Post)-[r:HAS_IMAGE]->(i:ImageContent) WHERE p.post_id = $post "
        "RETURN p, i, properties(r) AS link, labels(i) AS kinds",
        post=result.event.post_id,
    )
    assert len(found) == 1, "only the analyzed medium is drawn"
    (row,) = found
    listed = result.event.media_files[1]
    assert row["p"]["tenant_id"] == row["i"]["tenant_id"] == result.event.tenant_id
    assert (row["i"]["sha256"], row["i"]["s3_key"], row["i"]["mime_type"]) == (
        listed.sha256,
        listed.s3_key,
        "image/png",
    )
    assert (row["i"]["classification"], row["i"]["is_meme"], row["i"]["provider"]) == ("photo", True, "gigachat")
    assert row["i"]["analyzed_at"].to_native() == AT
    assert row["link"]["trace_id"] == result.event.trace_id
    assert row["link"]["position"] == 1
    assert sorted(row["kinds"]) == ["Image", "ImageContent"]


async def test_a_post_without_analysis_leaves_no_node(sink: GraphSink, graph: AsyncDriver) -> None:
    result = post([missing()])
    assert await sink.write([result, again(result, [None], (AT_MS, 2))]) == []
    assert await rows(graph, "MATCH (p:Post {post_id: $post}) RETURN p", post=result.event.post_id) == []


async def test_one_picture_of_many_posts_is_one_node_per_tenant(sink: GraphSink, graph: AsyncDriver) -> None:
    shared = medium()
    tenants = [unique("tenant"), unique("tenant")]
    await sink.write([post([analyzed()] * 2, tenant=tenants[n % 2], media=[shared, shared]) for n in range(6)])
    found = await rows(
        graph,
        "MATCH (p:Post)-[r:HAS_IMAGE]->(i:ImageContent {sha256: $sha}) "
        "RETURN i.tenant_id AS tenant, count(DISTINCT p) AS posts, count(r) AS links, "
        "collect(DISTINCT p.tenant_id) AS of",
        sha=shared.sha256,
    )
    assert sorted(found, key=lambda row: tenants.index(row["tenant"])) == [
        {"tenant": tenant, "posts": 3, "links": 3, "of": [tenant]} for tenant in tenants
    ]


async def test_labels_follow_the_last_analysis(sink: GraphSink, graph: AsyncDriver) -> None:
    first = post([analyzed(seen=analysis(labels=["старая", "Общая "]))])
    query = "MATCH (:ImageContent {tenant_id: $tenant})-[:HAS_LABEL]->(l) RETURN l.name AS name ORDER BY name"
    await sink.write([first])
    await sink.write([again(first, [analyzed(seen=analysis(labels=["общая", "новая"]))], (AT_MS, 2))])
    found = await rows(graph, query, tenant=first.event.tenant_id)
    assert [row["name"] for row in found] == ["новая", "общая"]
    await sink.write([again(first, [analyzed(seen=analysis(labels=[]))], (AT_MS, 3))])
    assert await rows(graph, query, tenant=first.event.tenant_id) == []


async def test_the_constraints_are_there(sink: GraphSink, graph: AsyncDriver) -> None:
    found = await rows(graph, "SHOW CONSTRAINTS YIELD labelsOrTypes, properties")
    assert {(row["labelsOrTypes"][0], *row["properties"]) for row in found} >= {
        ("ImageContent", "tenant_id", "sha256"),
        ("Post", "tenant_id", "post_id"),
        ("Label", "name"),
    }


async def test_workers_that_share_labels_do_not_disturb_each_other(
    stack_settings: Settings, graph: AsyncDriver
) -> None:
    tenant, labels = unique("tenant"), [unique("слово") for _ in range(10)]
    sinks = [GraphSink(stack_settings) for _ in range(3)]
    for sink in sinks:
        await sink.open()
    batches = [[post([analyzed(seen=analysis(labels=labels))], tenant=tenant) for _ in range(10)] for _ in sinks]
    try:
        await asyncio.gather(*(sink.write(batch) for sink, batch in zip(sinks, batches, strict=True)))
    finally:
        for sink in sinks:
            await sink.close()
    query = "MATCH (:ImageContent {tenant_id: $tenant})-[r:HAS_LABEL]->() RETURN count(r) AS links"
    assert await rows(graph, query, tenant=tenant) == [{"links": 300}]


async def test_a_time_out_of_range_is_the_records_fault(sink: GraphSink) -> None:
    absurd = post().model_copy(update={"completed_ms": 2**62})
    with pytest.raises(Rejected) as rejected:
        await sink.write([post(), absurd])
    assert rejected.value.index == 1


async def test_a_wrong_password_is_the_stores_fault(stack_settings: Settings) -> None:
    field = type(stack_settings.neo4j_password)
    sink = GraphSink(stack_settings.model_copy(update={"neo4j_password": field("wrong")}))
    with pytest.raises(SinkUnavailable, match="NEO4J_PASSWORD"):
        await sink.open()
    await sink.close()


# --- Redis ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_stream(stack_settings: Settings) -> Settings:
    return stack_settings.model_copy(update={"vision_output_stream": unique("stream:test")})


@pytest.fixture
async def redis(stack_settings: Settings) -> AsyncIterator[Redis]:
    async with Redis.from_url(stack_settings.redis_url.get_secret_value(), decode_responses=True) as redis:
        yield redis


@pytest.fixture
async def announcer(own_stream: Settings) -> AsyncIterator[RedisAnnouncer]:
    announcer = RedisAnnouncer(own_stream)
    await announcer.open()
    yield announcer
    await announcer.close()


def told(result: PostResult) -> Announcement:
    return Announcement(*events.announcement(result))


async def entries(redis: Redis, settings: Settings) -> list[dict[str, str]]:
    return [fields for _, fields in await redis.xrange(settings.vision_output_stream)]


async def test_what_is_on_the_stream_is_strictly_valid(
    announcer: RedisAnnouncer, redis: Redis, own_stream: Settings
) -> None:
    first, second = post([analyzed(), missing()]), post([missing()])
    await announcer.write([told(first), told(second)])
    analyzed_entry, skipped_entry = await entries(redis, own_stream)
    event = VisionAnalyzedEventV1.model_validate_json(analyzed_entry["data"], strict=True)
    assert (event.post_id, event.trace_id) == (first.event.post_id, first.event.trace_id)
    assert analyzed_entry["event"] == "posts.vision.analyzed"
    assert "skipped" not in analyzed_entry
    assert VisionSkippedEventV1.model_validate_json(skipped_entry["data"]).reasons[0].reason == "s3_missing"
    assert skipped_entry["skipped"] == "true"


async def test_marks_are_set_for_analyzed_media_only_and_expire(announcer: RedisAnnouncer, redis: Redis) -> None:
    result = post([analyzed(), missing()])
    await announcer.write([told(result)])
    seen, unseen = (processed_key(result.event.post_id, m.sha256) for m in result.event.media_files)
    assert (await redis.get(seen), await redis.get(unseen)) == ("1", None)
    assert PROCESSED_TTL_SECONDS - 60 < await redis.ttl(seen) <= PROCESSED_TTL_SECONDS
    memory = emitted_key(result.event.tenant_id, result.event.post_id)
    assert EMITTED_TTL_SECONDS - 60 < await redis.ttl(memory) <= EMITTED_TTL_SECONDS


async def test_many_workers_announce_each_state_once_and_never_backwards(
    announcer: RedisAnnouncer, redis: Redis, own_stream: Settings
) -> None:
    base = post()
    states = [told(again(base, [analyzed()], (AT_MS + n // 10, n % 10))) for n in range(40)]
    others = [RedisAnnouncer(own_stream) for _ in range(4)]
    try:
        await asyncio.gather(*(worker.write(states[start:]) for start, worker in enumerate([announcer, *others])))
    finally:
        for other in others:
            await other.close()
    emissions = [json.loads(fields["data"])["emission"] for fields in await entries(redis, own_stream)]
    order = [tuple(int(part) for part in emission.split("-")) for emission in emissions]
    assert order == sorted(set(order))
    assert order[-1] == (AT_MS + 3, 9)


async def test_a_script_flushed_from_redis_is_loaded_again(announcer: RedisAnnouncer, redis: Redis) -> None:
    for _ in range(2):
        record = told(post())
        assert await announcer.write([record]) == [record]
        await redis.script_flush()


async def test_an_entry_that_redis_refuses_leaves_no_trace(
    announcer: RedisAnnouncer, redis: Redis, own_stream: Settings
) -> None:
    await redis.set(own_stream.vision_output_stream, "not a stream")
    result = post()
    with pytest.raises(SinkUnavailable, match="WRONGTYPE"):
        await announcer.write([told(result)])
    memory = emitted_key(result.event.tenant_id, result.event.post_id)
    mark = processed_key(result.event.post_id, result.event.media_files[0].sha256)
    assert await redis.exists(memory, mark) == 0
    await redis.delete(own_stream.vision_output_stream)
    await announcer.write([told(result)])
    assert len(await entries(redis, own_stream)) == 1
