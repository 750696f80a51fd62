"""One post end to end on real services: what a producer, a reader, an operator and an owner would check."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import asyncpg
import httpx
import orjson
from aiokafka import AIOKafkaProducer
from neo4j import AsyncGraphDatabase
from PIL import Image

from tests.integration.pipeline import Pipeline, Worker, picture, unique
from tests.oracles import VisionAnalyzedEventV1, VisionSkippedEventV1
from vision_app.messages import SetLimit, key_of
from vision_app.operations.neighbours import never_uploaded, upload
from vision_app.settings import Settings
from vision_app.stores.keys import post_key
from vision_app.topics import BUDGET

GUIDE_SQL = """
SELECT
    pe.vision_analyzed_at,
    pe.vision_provider,
    pe.vision_model,
    pe.vision_is_meme,
    pe.vision_classification,
    pe.vision_tokens_used,
    pe.s3_vision_keys,
    pe.s3_media_keys
FROM post_enrichment pe
WHERE pe.post_id = $1
"""


async def test_a_post_reaches_every_store_and_the_reader(pipe: Pipeline, worker: Worker) -> None:
    tenant, post = unique("whole"), unique("whole")
    since = await pipe.newest()
    await pipe.publish(tenant, post, [await pipe.upload(tenant, "meme_cat.jpg")])
    event = (await pipe.announced([post], since))[post]

    assert event.event_type == "posts.vision.analyzed"
    body = VisionAnalyzedEventV1.model_validate(event.body)
    assert (body.post_id, body.trace_id, body.tenant_id) == (post, f"t-{post}", tenant)
    assert event.body["vision"]["is_meme"] is True
    await pipe.idle()

    row = await _guide_row(pipe.settings, post)
    assert all(value is not None for value in dict(row).values()), dict(row)
    assert row["vision_provider"] == "gigachat"
    assert row["vision_is_meme"] is True
    assert row["vision_tokens_used"] > 0
    assert row["vision_analyzed_at"].tzinfo is not None

    [answer_key] = orjson.loads(row["s3_vision_keys"])
    answer = orjson.loads(await pipe.s3.read(answer_key, 1_000_000))
    assert answer["answer"]["tokens"] == row["vision_tokens_used"]
    document = orjson.loads(await pipe.s3.read(post_key(tenant, post), 1_000_000))
    assert document["post_id"] == post

    nodes = await _graph(pipe.settings, post)
    assert [node["classification"] for node in nodes] == ["meme"]
    assert {"ImageContent", "Image"} <= set(nodes[0].labels)

    async with httpx.AsyncClient(trust_env=False) as client:
        answered = await client.get(f"{worker.url}/api/v1/vision/posts/{post}", headers={"X-Trace-ID": "test_x"})
    assert answered.status_code == 200
    assert answered.headers["X-Trace-ID"] == answered.json()["trace_id"] == "test_x"
    shown = answered.json()
    assert shown["classification"]["type"] == "meme"
    assert shown["simulated"] is True
    assert (shown["media_count"], shown["s3_vision_keys"]) == (1, [answer_key])
    pending = await pipe.redis.xpending(pipe.settings.input_streams[0], pipe.settings.vision_consumer_group)
    assert pending["pending"] == 0


async def test_five_pictures_one_missing_two_the_same(pipe: Pipeline) -> None:
    tenant, post = unique("five"), unique("five")
    one, two, three = [await pipe.upload(tenant, picture()) for _ in range(3)]
    media = [one, two, one, never_uploaded(tenant, post), three]
    since = await pipe.newest()
    await pipe.publish(tenant, post, media)
    event = (await pipe.announced([post], since))[post]

    statuses = [item["status"] for item in event.body["enrichments"]]
    assert statuses == ["analyzed", "analyzed", "analyzed", "skipped", "analyzed"]
    assert [item["sha256"] for item in event.body["enrichments"]] == [medium.sha256 for medium in media]
    assert event.body["enrichments"][3]["reason"] == "s3_missing"
    await pipe.idle()
    assert len((await pipe.all_announced([post], since))[post]) == 1
    assert len(await _rows(pipe.settings, post)) == 1
    assert len(await pipe.billed(post)) == 3, "the twins are one question"


async def test_a_missing_object_is_skipped_and_costs_nothing(pipe: Pipeline, worker: Worker) -> None:
    tenant, post = unique("missing"), unique("missing")
    since = await pipe.newest()
    await pipe.publish(tenant, post, [never_uploaded(tenant, post)])
    event = (await pipe.announced([post], since))[post]

    body = VisionSkippedEventV1.model_validate(event.body)
    assert [reason.reason for reason in body.reasons] == ["s3_missing"]
    assert await pipe.billed(post) == []
    assert (await pipe.budget(worker, tenant))["spent"] == 0
    [mark] = [f"vision:processed:{post}:{item['sha256']}" for item in event.body["enrichments"]]
    assert not await pipe.redis.exists(mark)


async def test_a_repeated_post_is_silent_and_free(pipe: Pipeline) -> None:
    tenant, post = unique("twice"), unique("twice")
    medium = await pipe.upload(tenant, picture())
    since = await pipe.newest()
    await pipe.publish(tenant, post, [medium])
    await pipe.announced([post], since)
    await pipe.publish(tenant, post, [medium], trace=f"t-{post}-retry")
    await pipe.idle()

    assert len((await pipe.all_announced([post], since))[post]) == 1
    assert len(await pipe.billed(post)) == 1
    assert await pipe.redis.ttl(f"vision:processed:{post}:{medium.sha256}") > 0


async def test_one_picture_in_many_posts_is_paid_once(pipe: Pipeline, worker: Worker) -> None:
    tenant, tag = unique("same"), unique("same")
    medium = await pipe.upload(tenant, picture())
    posts = [f"{tag}-{number}" for number in range(12)]
    since = await pipe.newest()
    for post in posts:
        await pipe.publish(tenant, post, [medium])
    events = await pipe.announced(posts, since)
    assert {event.event_type for event in events.values()} == {"posts.vision.analyzed"}
    await pipe.idle()

    [call] = await pipe.billed(tag)
    budget = await pipe.budget(worker, tenant)
    assert (budget["spent"], budget["open_grants"]) == (call["total_tokens"], 0)


async def test_tenants_with_the_same_picture_and_post_id_stay_apart(pipe: Pipeline, worker: Worker) -> None:
    post, content = unique("shared"), picture()
    tenants = [unique("apart"), unique("apart")]
    since = await pipe.newest()
    for tenant in tenants:
        await pipe.publish(tenant, post, [await pipe.upload(tenant, content)])
    await pipe.announced([post], since)
    await pipe.idle()

    assert len(await pipe.billed(post)) == 2, "a cache is never shared between tenants"
    async with httpx.AsyncClient(trust_env=False) as client:
        url = f"{worker.url}/api/v1/vision/posts/{post}"
        assert (await client.get(url)).status_code == 409
        shown = (await client.get(url, params={"tenant_id": tenants[1]})).json()
    assert shown["tenant_id"] == tenants[1]
    assert all(f"/{tenants[1]}/" in key for key in shown["s3_vision_keys"])


async def test_the_api_shows_work_in_progress_and_unknown_posts(pipe: Pipeline, worker: Worker) -> None:
    tenant, post = unique("live"), unique("live")
    await pipe.faults({"endpoint": "chat", "session": f"t-{post}", "fault": {"kind": "latency", "seconds": 3}})
    since = await pipe.newest()
    await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:
        seen = set()
        while 200 not in seen:
            answer = await client.get(f"/api/v1/vision/posts/{post}", params={"tenant_id": tenant})
            seen.add(answer.status_code)
            await asyncio.sleep(0.1)  # the API limits each caller's rate
            if answer.status_code == 202:
                assert answer.json()["media"][0]["status"] in ("in_work", "analyzed")
        assert 202 in seen
        missing = await client.get("/api/v1/vision/posts/nobody-knows")
        assert missing.status_code == 404
        assert missing.json()["error"]["message"] == "Vision analysis not found for post nobody-knows"
    await pipe.announced([post], since)


async def test_an_exhausted_budget_defers_or_reads_the_text_and_never_overspends(
    pipe: Pipeline, worker: Worker, stack_settings: Settings
) -> None:
    """The default limit is 250,000 tokens; a command sets this tenant's to what two calls may cost."""
    tenant, tag = unique("poor"), unique("poor")
    await _set_limit(stack_settings, tenant, 6000)
    posts = [f"{tag}-{number}" for number in range(8)]
    since = await pipe.newest()
    for post in posts:
        await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    events = await pipe.announced(posts, since)
    budget = await pipe.budget(worker, tenant)
    assert budget["limit"] == 6000
    assert budget["spent"] <= 6000
    assert sum(call["total_tokens"] for call in await pipe.billed(tag)) == budget["spent"]
    how = [_how(event.body["enrichments"][0]) for event in events.values()]
    assert how.count("gigachat") == len(await pipe.billed(tag)) >= 2
    assert set(how) - {"gigachat"} <= {"ocr_fallback", "deferred"}
    assert len(set(how)) > 1, "the money ran out"


async def test_an_answer_in_prose_is_repaired_under_its_own_grant(pipe: Pipeline, worker: Worker) -> None:
    tenant, post = unique("prose"), unique("prose")
    fault = {"kind": "malformed", "name": "prose"}
    await pipe.faults({"endpoint": "chat", "session": f"t-{post}", "times": 1, "fault": fault})
    since = await pipe.newest()
    await pipe.publish(tenant, post, [await pipe.upload(tenant, "photo_cat.jpg")])
    event = (await pipe.announced([post], since))[post]
    assert event.body["vision"]["classification"]["type"] == "photo"
    await pipe.idle()
    calls = [call["total_tokens"] for call in await pipe.billed(post)]
    assert len(calls) == 2
    assert event.body["vision"]["tokens_used"] == sum(calls)
    assert (await pipe.budget(worker, tenant))["spent"] == sum(calls)


async def test_documents_are_looked_at_as_attachments(pipe: Pipeline) -> None:
    tenant, post = unique("papers"), unique("papers")
    text = f"Акт приёмки работ № 128 от 22.11.2026, {post}\nЗаказчик принял, исполнитель сдал.".encode()
    media = [await upload(pipe.s3, tenant, text, "text/plain"), await upload(pipe.s3, tenant, pdf(), "application/pdf")]
    since = await pipe.newest()
    await pipe.publish(tenant, post, media)
    event = (await pipe.announced([post], since))[post]
    kinds = [item["analysis"]["classification"] for item in event.body["enrichments"]]
    assert kinds == ["document", "document"]
    await pipe.idle()
    assert len(await pipe.billed(post)) == 2


async def test_a_refused_picture_in_many_posts_is_paid_once(pipe: Pipeline) -> None:
    tenant, tag = unique("refused"), unique("refused")
    medium = await pipe.upload(tenant, picture())
    posts = [f"{tag}-{number}" for number in range(60)]
    await pipe.faults({"endpoint": "chat", "fault": {"kind": "refusal", "name": "blacklist"}})
    since = await pipe.newest()
    for post in posts:
        await pipe.publish(tenant, post, [medium])
    events = await pipe.announced(posts, since)
    ended = {_how(event.body["enrichments"][0]) for event in events.values()}
    assert ended <= {"ocr_fallback", "failed"}
    await pipe.idle()
    assert len(await pipe.billed(tag)) == 1


async def test_unreadable_entries_are_kept_whole_and_do_not_stop_the_others(pipe: Pipeline) -> None:
    tenant, post = unique("good"), unique("good")
    since = await pipe.newest()
    broken = unique("broken")
    await pipe.redis.xadd(pipe.settings.input_streams[0], {"event": "posts.vision.uploaded", "data": f"{{{broken}"})
    await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    await pipe.announced([post], since)
    await pipe.idle()
    letters = [fields for _, fields in await pipe.redis.xrevrange(pipe.settings.vision_dlq_stream, count=20)]
    [letter] = [fields for fields in letters if broken.encode() in fields[b"data"]]
    assert letter[b"original_stream"] == pipe.settings.input_streams[0].encode()
    assert letter[b"error"]


def test_the_log_has_the_guides_lines_and_a_trace_on_every_line(worker: Worker) -> None:
    lines = [orjson.loads(line) for line in worker.log().splitlines() if line.startswith("{")]
    said = {line["event"] for line in lines}
    assert {"Vision Analysis task registered with supervisor", "Vision Analysis task started"} <= said
    assert all({"trace_id", "post_id", "tenant_id"} <= line.keys() for line in lines)
    ours = [line for line in lines if line["logger"].startswith(("vision_app.", "agents.", "bridges."))]
    errors = {line.get("error") for line in ours if line["level"] in ("error", "critical")}
    assert errors <= {"unreadable"}, "nothing but the entry that was broken on purpose"


def pdf() -> bytes:
    """A small PDF of one page."""
    content = io.BytesIO()
    Image.new("RGB", (200, 280), "white").save(content, "PDF")
    return content.getvalue()


async def _guide_row(settings: Settings, post: str) -> asyncpg.Record:
    [row] = await _rows(settings, post)
    return row


async def _rows(settings: Settings, post: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        rows: list[asyncpg.Record] = await connection.fetch(GUIDE_SQL, post)
        return rows
    finally:
        await connection.close()


async def _graph(settings: Settings, post: str) -> list[Any]:
    query = "MATCH (p:Post)-[:HAS_IMAGE]->(i:ImageContent) WHERE p.post_id = $post RETURN p, i"
    auth = (settings.neo4j_user, settings.neo4j_password.get_secret_value())
    async with AsyncGraphDatabase.driver(settings.neo4j_uri, auth=auth) as driver:
        records, _, _ = await driver.execute_query(query, post=post)
    return [record["i"] for record in records]


async def _set_limit(settings: Settings, tenant: str, limit: int) -> None:
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        command = SetLimit(tenant_id=tenant, limit=limit)
        await producer.send_and_wait(BUDGET.name, key=key_of(tenant), value=command.encode())


def _how(enrichment: dict[str, str]) -> str:
    return enrichment.get("provider") or enrichment["status"]
