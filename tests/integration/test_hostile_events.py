"""Hostile events at the real pipeline: one hostile event, then ordinary posts of others.

Every event ends: the hostile one among the dead letters or announced, the others announced, and nothing is left over.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from tests.integration.pipeline import Pipeline, Worker, picture, unique
from tests.samples import post
from vision_app.audit import take_account
from vision_app.messages import DeadLetter, MediaTask, Medium, decode, key_of
from vision_app.operations.connections import postgres_of
from vision_app.operations.kafka_log import kafka_log
from vision_app.operations.letters import Filter, read_letters
from vision_app.operations.neighbours import publish, uploaded_event
from vision_app.topics import MEDIA, SINK_POSTGRES, UPLOADED, Topic

SIBLINGS = 20
LONG = "".join(Random(12).choices([chr(code) for code in range(0x4E00, 0x9FA5)], k=20_000))
"""Nothing that an index could compress."""
SENT_BYTES = 1_900_000
"""Of an id: with key and headers just below the largest record, and more than one in all that it leads to."""


async def letters_of(pipe: Pipeline, **wanted: Any) -> list[DeadLetter]:
    async with kafka_log(pipe.settings) as kafka:
        return await read_letters(kafka, Filter(**wanted))


async def siblings_go_on(pipe: Pipeline, worker: Worker, since: str) -> None:
    """Posts of another tenant, published behind the hostile ones, all come to their end; and nothing is left open."""
    tenant = unique("sound")
    media = [await pipe.upload(tenant, picture())]
    posts = [unique("sound") for _ in range(SIBLINGS)]
    for post_id in posts:
        await pipe.publish(tenant, post_id, media)
    await pipe.announced(posts, since)
    await pipe.idle()
    account = await take_account(pipe.settings, tenants=[tenant])
    assert account.discrepancies == []
    assert (account.analyzed, account.dead_lettered) == (SIBLINGS, 0)
    assert worker.alive


async def produce(
    pipe: Pipeline, topic: Topic, key: bytes, value: bytes, headers: Mapping[str, bytes] | None = None
) -> None:
    """A record of somebody who knows no bounds."""
    servers = pipe.settings.kafka_bootstrap_servers
    async with AIOKafkaProducer(bootstrap_servers=servers, max_request_size=2**23) as producer:
        await producer.send_and_wait(topic.name, value, key=key, headers=list((headers or {}).items()))


@pytest.mark.parametrize("size", [1_000_000, 2_200_000])
@pytest.mark.parametrize("name", ["trace_id", "tenant_id"])
async def test_an_id_of_megabytes_fails_only_its_own_event(
    pipe: Pipeline, worker: Worker, name: str, size: int
) -> None:
    """Rows 1 and 2, by Redis."""
    since, post_id = await pipe.newest(), unique("hostile")
    dead_before = await pipe.redis.xlen(pipe.settings.vision_dlq_stream)
    event = uploaded_event(unique("hostile"), post_id, [await pipe.upload("hostile", picture())], "t-hostile")
    entry = await publish(pipe.redis, pipe.settings, {**event, name: "x" * size})
    await siblings_go_on(pipe, worker, since)
    (letter,) = await letters_of(pipe, ids=[f"{pipe.settings.input_streams[0]}-{entry}"])
    assert (letter.error, letter.post_id) == ("unreadable", post_id)
    assert f"{name}: {size} characters" in letter.reason
    assert await pipe.redis.xlen(pipe.settings.vision_dlq_stream) == dead_before + 1
    if "vision-cut" in letter.headers:
        bucket_and_key = letter.headers["vision-whole"].removeprefix("s3://")
        whole = decode(DeadLetter, await pipe.s3.read(bucket_and_key.partition("/")[2], 10_000_000))
        assert orjson.loads(orjson.loads(whole.value or "")["data"])[name] == "x" * size
    else:
        assert size == 1_000_000


async def test_oversized_records_on_our_topics_fail_only_themselves(pipe: Pipeline, worker: Worker) -> None:
    """Row 1, by Kafka: what the records lead to, their letters and what goes with them are all too large."""
    since, tenant, post_id = await pipe.newest(), unique("hostile"), unique("hostile")
    long = "x" * SENT_BYTES
    event = uploaded_event(tenant, post_id, [], long)
    await produce(pipe, UPLOADED, key_of(tenant, post_id), orjson.dumps(event), {"trace_id": b"x" * 100_000})
    medium = Medium(sha256="ab" * 32, s3_key="nowhere")
    task = MediaTask(tenant_id=tenant, post_id=post_id, trace_id=long, medium=medium, dispatch=1)
    await produce(pipe, MEDIA, key_of(tenant, medium.sha256), task.encode())
    await siblings_go_on(pipe, worker, since)
    letters = await letters_of(pipe, tenant_id=tenant)
    # the outcome that the task's letter sends along finds no open post, and is a letter, too
    assert {letter.origin for letter in letters} == {UPLOADED.name, MEDIA.name, "vision.posts"}
    assert {letter.post_id for letter in letters} == {post_id}


async def test_a_time_far_from_utc_is_taken_and_its_post_is_announced(pipe: Pipeline, worker: Worker) -> None:
    """Row 3: paid, then refused by Postgres, and never announced."""
    since, tenant = await pipe.newest(), unique("late")
    times = ("2026-11-22T12:00:00+16:00", "2026-11-22T12:00:00-23:59", "9999-12-31T23:59:59-12:00")
    posts = [unique("late") for _ in times]
    media = [await pipe.upload(tenant, picture())]
    for post_id, time in zip(posts, times, strict=True):
        event = uploaded_event(tenant, post_id, media, f"t-{post_id}", occurred_at=time, uploaded_at=time)
        await publish(pipe.redis, pipe.settings, event)
    announced = await pipe.announced(posts, since)
    assert {event.event_type for event in announced.values()} == {"posts.vision.analyzed"}
    await siblings_go_on(pipe, worker, since)
    async with postgres_of(pipe.settings) as pool:
        rows = await pool.fetch("SELECT data FROM post_enrichment WHERE tenant_id = $1", tenant)
    assert len(rows) == len(posts)
    assert all("reduced" not in orjson.loads(row["data"]) for row in rows)
    assert await letters_of(pipe, tenant_id=tenant) == []


async def test_a_result_that_postgres_refuses_is_stored_reduced_and_announced(pipe: Pipeline, worker: Worker) -> None:
    """Row 3: a trace id above some 8 kB, which an index refuses; the picture was paid for."""
    since, tenant = await pipe.newest(), unique("refused")
    result = post(tenant=tenant, post_id=unique("refused"), trace_id=LONG)
    post_id = result.event.post_id
    await produce(pipe, SINK_POSTGRES, result.key, result.encode())
    announced = (await pipe.announced([post_id], since))[post_id]
    assert announced.event_type == "posts.vision.analyzed"
    assert announced.body["vision"]["description"] == "Кот на окне"
    async with postgres_of(pipe.settings) as pool:
        row = await pool.fetchrow("SELECT * FROM post_enrichment WHERE post_id = $1", post_id)
    assert (row["status"], row["trace_id"], row["vision_description"]) == ("ok", None, "Кот на окне")
    assert orjson.loads(row["data"])["reduced"]["fields"] == ["trace_id"]
    await siblings_go_on(pipe, worker, since)
    assert await letters_of(pipe, tenant_id=tenant) == []
