"""The eight smoke scenarios of the surrounding assistant, each on both input streams, against the real stack.

The numbers of the tests are the scenarios'. Events have shape A, ids that are no UUIDs, and the tenant `default`
where the assistant's own script has it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.integration.pipeline import Pipeline, Worker, picture, unique
from tests.oracles import VisionAnalyzedEventV1, VisionSkippedEventV1
from vision_app.messages import Medium
from vision_app.operations.neighbours import never_uploaded

STREAMS = ("stream:posts:vision:uploaded", "stream:posts:vision")
DEFAULT_TENANT = "default"
TINY_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000a49444154789c6300010000050001"
    "0d0a2db40000000049454e44ae426082"
)
SCENARIO_SECONDS = 300  # the assistant's own limit
MISSING_KEY = "no/such/key.jpg"


@pytest.fixture(params=STREAMS)
def stream(request: pytest.FixtureRequest) -> str:
    return str(request.param)


WORKER = {"VISION_PEL_MIN_IDLE_MS": "1000"}


async def test_1_success(pipe: Pipeline, stream: str) -> None:
    post, since = unique("p-1001"), await pipe.newest()
    await _publish(pipe, stream, post, [await pipe.upload(DEFAULT_TENANT, TINY_PNG)])
    event = (await pipe.announced([post], since))[post]
    VisionAnalyzedEventV1.model_validate(event.body)
    assert event.event_type == "posts.vision.analyzed"
    assert (event.body["post_id"], event.body["trace_id"]) == (post, f"t-{post}")
    [(_, fields)] = await pipe.redis.xrange(pipe.settings.vision_output_stream, event.entry_id, event.entry_id)
    assert b"skipped" not in fields
    await pipe.idle()
    assert await _pending(pipe, stream) == 0


async def test_2_skipped_when_the_object_is_missing(pipe: Pipeline, stream: str) -> None:
    post, since = unique("p-1002"), await pipe.newest()
    medium = Medium(sha256=never_uploaded(DEFAULT_TENANT, post).sha256, s3_key=MISSING_KEY, mime_type="image/jpeg")
    for expected in (1, 2):  # the mark is not set, so the same event is evaluated again
        await _publish(pipe, stream, post, [medium])
        await pipe.idle()
        events = (await pipe.all_announced([post], since))[post]
        assert len(events) == expected
    event = events[0]
    VisionSkippedEventV1.model_validate(event.body)
    [(_, fields)] = await pipe.redis.xrange(pipe.settings.vision_output_stream, event.entry_id, event.entry_id)
    assert (fields[b"event"], fields[b"skipped"]) == (b"posts.vision.skipped", b"true")
    assert [reason["reason"] for reason in event.body["reasons"]] == ["s3_missing"]
    assert await _pending(pipe, stream) == 0
    assert await pipe.billed(post) == []
    assert not await pipe.redis.exists(f"vision:processed:{post}:{medium.sha256}")


async def test_3_partial(pipe: Pipeline, stream: str) -> None:
    post, since = unique("p-1003"), await pipe.newest()
    media = [await pipe.upload(DEFAULT_TENANT, picture()), never_uploaded(DEFAULT_TENANT, post)]
    await _publish(pipe, stream, post, media)
    event = (await pipe.announced([post], since))[post]
    assert event.event_type == "posts.vision.analyzed"
    assert [item["sha256"] for item in event.body["enrichments"]] == [medium.sha256 for medium in media]
    assert ["analysis" in item for item in event.body["enrichments"]] == [True, False]


async def test_4_idempotency(pipe: Pipeline, worker: Worker, stream: str) -> None:
    post, since = unique("p-1004"), await pipe.newest()
    medium = await pipe.upload(DEFAULT_TENANT, picture())
    await _publish(pipe, stream, post, [medium])
    await pipe.announced([post], since)
    await pipe.idle()
    hits = await _metric(worker, "vision_worker_idempotency_hits_total")
    other = STREAMS[1 - STREAMS.index(stream)]
    for number, where in enumerate((stream, other), start=1):
        await _publish(pipe, where, post, [medium], trace=f"t-{post}-retry")
        await pipe.idle()
        assert await _metric(worker, "vision_worker_idempotency_hits_total") == hits + number
    assert 0 < await pipe.redis.ttl(f"vision:processed:{post}:{medium.sha256}") <= 24 * 3600
    assert len((await pipe.all_announced([post], since))[post]) == 1, "a full duplicate is silent"
    assert len(await pipe.billed(post)) == 1
    assert await _pending(pipe, stream) == 0


async def test_5_pending_entries_of_another_consumer_are_recovered(pipe: Pipeline, worker: Worker, stream: str) -> None:
    await asyncio.to_thread(worker.stop)
    post, since = unique("p-1005"), await pipe.newest()
    await _publish(pipe, stream, post, [await pipe.upload(DEFAULT_TENANT, picture())])
    await pipe.redis.xreadgroup(pipe.settings.vision_consumer_group, "tester", {stream: ">"}, count=100)
    assert await _pending(pipe, stream) == 1
    worker.start()
    await worker.ready()
    event = (await pipe.announced([post], since))[post]
    assert event.body["trace_id"] == f"t-{post}"
    await pipe.idle()
    assert await _pending(pipe, stream) == 0


async def test_6_poison_goes_to_the_dead_letters(
    pipe: Pipeline, worker: Worker, stack: Mapping[str, str], tmp_path: Path, stream: str
) -> None:
    await asyncio.to_thread(worker.stop)
    post = unique("p-1006")
    await _publish(pipe, stream, post, [never_uploaded(DEFAULT_TENANT, post)])
    await pipe.redis.xreadgroup(pipe.settings.vision_consumer_group, "tester", {stream: ">"}, count=100)
    strict = Worker(stack, tmp_path, 1, VISION_MAX_DELIVERIES="1", VISION_PEL_MIN_IDLE_MS="1000")
    strict.start()
    try:
        await strict.ready()
        await pipe.idle()
        letters = [fields for _, fields in await pipe.redis.xrevrange(pipe.settings.vision_dlq_stream, count=20)]
        [letter] = [fields for fields in letters if post.encode() in fields[b"data"]]
        assert orjson.loads(letter[b"data"])["post_id"] == post
        assert (letter[b"delivery_count"], letter[b"max_deliveries"]) == (b"1", b"1")
        assert letter[b"error"]
        assert await _pending(pipe, stream) == 0
        await asyncio.to_thread(strict.stop)
    finally:
        strict.end()
        worker.start()
        await worker.ready()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.load)])
async def test_7_load(pipe: Pipeline, stream: str, count: int) -> None:
    """60 % valid posts with one picture, 30 % missing, 10 % poison (missing, as the assistant's script has it)."""
    tag, since = unique("p-load"), await pipe.newest()
    medium = await pipe.upload(DEFAULT_TENANT, picture())
    posts = [f"{tag}-{number:04}" for number in range(count)]
    for number, post in enumerate(posts):
        valid = number % 10 < 6
        await _publish(pipe, stream, post, [medium if valid else never_uploaded(DEFAULT_TENANT, post)])
    events = await pipe.announced(posts, since, SCENARIO_SECONDS)
    await pipe.idle()
    kinds = [event.event_type for event in events.values()]
    assert kinds.count("posts.vision.analyzed") == count * 6 // 10
    assert kinds.count("posts.vision.skipped") == count * 4 // 10
    assert all(len(found) == 1 for found in (await pipe.all_announced(posts, since)).values())
    assert len(await pipe.billed(tag)) == 1, "one picture, one call"
    assert await _pending(pipe, stream) == 0


async def test_8_metrics_and_logs(pipe: Pipeline, worker: Worker, stream: str) -> None:
    post, since = unique("p-1008"), await pipe.newest()
    await _publish(pipe, stream, post, [never_uploaded(DEFAULT_TENANT, post)])
    await pipe.announced([post], since)
    scraped = await _scrape(worker)
    for name in ("vision_events_total", "vision_media_total", "vision_retries_total", "vision_pel_size"):
        assert re.search(rf"^{name}{{[^}}]+}} \d+(\.\d+)?$", scraped, re.MULTILINE), name
    for name in ("vision_event_duration_seconds", "vision_media_duration_seconds"):
        assert re.search(rf"^{name}\w*{{[^}}]+}} \d+(\.\d+)?$", scraped, re.MULTILINE), name
    lines = [orjson.loads(line) for line in worker.log().splitlines() if line.startswith("{")]
    about = [line for line in lines if "vision" in str(line).lower()]
    assert all("trace_id" in line and "post_id" in line for line in about)
    skips = [line for line in about if line.get("post_id") == post and "skip" in line["event"].lower()]
    assert {line["reason"] for line in skips} == {"s3_missing"}


async def _publish(pipe: Pipeline, stream: str, post: str, media: list[Medium], trace: str = "") -> None:
    event: dict[str, Any] = {
        "event_type": "posts.vision.uploaded",
        "schema_version": "1.0",
        "producer": "telethon-ingest",
        "trace_id": trace or f"t-{post}",
        "idempotency_key": f"{DEFAULT_TENANT}:{post}:vision_upload",
        "tenant_id": DEFAULT_TENANT,
        "post_id": post,
        "media_files": [medium.model_dump(mode="json", exclude_none=True) for medium in media],
        "requires_vision": True,
    }
    await pipe.redis.xadd(stream, {"event": "posts.vision.uploaded", "data": orjson.dumps(event)})


async def _pending(pipe: Pipeline, stream: str) -> int:
    return int((await pipe.redis.xpending(stream, pipe.settings.vision_consumer_group))["pending"])


async def _scrape(worker: Worker) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{worker.metrics_url}/metrics")).text


async def _metric(worker: Worker, name: str) -> float:
    [value] = re.findall(rf"^{name} (\S+)$", await _scrape(worker), re.MULTILINE)
    return float(value)
