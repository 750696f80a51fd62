"""VISION_WORKERS=2 on the real services: one API, one page of metrics, and a process that is killed loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.pipeline import DEADLINE_SECONDS, Pipeline, Worker, picture, pipeline, unique
from vision_app.settings import Settings

LATENCY = {"endpoint": "chat", "fault": {"kind": "latency", "seconds": 0.5, "max_seconds": 1.5}}


@pytest.fixture
def worker(stack: Mapping[str, str], tmp_path: Path) -> Iterator[Worker]:
    one = Worker(stack, tmp_path, 1, VISION_WORKERS="2")
    yield one
    one.end()


@pytest.fixture
async def pipe(stack_settings: Settings) -> AsyncIterator[Pipeline]:
    async with pipeline(stack_settings) as opened:
        yield opened


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        yield client


Readiness = dict[str, Any]


async def readiness(http: httpx.AsyncClient, worker: Worker, wanted: Callable[[Readiness], bool]) -> Readiness:
    """The first answer of /readyz that is as wanted."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            answer: Readiness = (await http.get(f"{worker.url}/readyz")).json()
            if wanted(answer):
                return answer
            await asyncio.sleep(0.05)


def posts_in(lines: list[str]) -> set[str]:
    """The posts that the lines of an event stream name."""
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    return {one["post_id"] for one in data if "post_id" in one}


async def test_two_processes_are_one_worker(pipe: Pipeline, worker: Worker, http: httpx.AsyncClient) -> None:
    """Also as `faust -A vision_app.app worker`, which goes on as the same supervisor."""
    worker.start("faust")
    await worker.ready()
    changes: list[str] = []

    async def listen() -> None:
        async with http.stream("GET", f"{worker.url}/api/v1/changes", timeout=DEADLINE_SECONDS) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                changes.append(line)

    listening = asyncio.create_task(listen())
    tag = unique("several")
    tenants = [f"{tag}-{number}" for number in range(6)]
    posts = [f"{tag}-post-{number}" for number in range(18)]
    since = await pipe.newest()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while "event: ready" not in changes:
            await asyncio.sleep(0.05)
    medium = await pipe.upload(tenants[0], picture())
    for number, post in enumerate(posts):
        tenant = tenants[number % len(tenants)]
        await pipe.publish(tenant, post, [await pipe.upload(tenant, picture()) if number else medium])
    await pipe.announced(posts, since)
    await pipe.idle()

    async with asyncio.timeout(DEADLINE_SECONDS):
        while not set(posts) <= posts_in(changes):
            await asyncio.sleep(0.05)
    listening.cancel()
    for tenant in tenants:  # ledgers of both processes, at the one port
        assert (await pipe.budget(worker, tenant))["spent"] > 0
    answer = await http.get(f"{worker.url}/api/v1/vision/posts/{posts[0]}", params={"tenant_id": tenants[0]})
    assert answer.json()["status"] == "ok"
    page = await http.get(f"{worker.url}/ui")
    assert (page.status_code, page.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
    thumbnail = await http.get(f"{worker.url}/api/v1/media/{medium.sha256}/thumbnail", params={"tenant_id": tenants[0]})
    assert thumbnail.headers["Content-Type"].startswith("image/"), thumbnail.text

    metrics = (await http.get(f"{worker.metrics_url}/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(metrics)}
    samples = [one for one in families["vision_sink_written"].samples if one.labels["sink"] == "postgres"]
    written = {one.labels["process"]: one.value for one in samples}
    assert written.keys() == {"worker-1-1", "worker-1-2"}
    assert min(written.values()) > 0, "both processes worked"
    assert {one.value for one in families["vision_process_up"].samples} == {1.0}
    lines = [json.loads(line) for line in worker.log().splitlines() if line.startswith("{")]
    who = {line["worker"].rpartition("-")[0] for line in lines if line["event"] == "analysis_completed"}
    assert who == {"worker-1-1", "worker-1-2"}
    processes = [psutil.Process(one["pid"]) for one in (await readiness(http, worker, lambda _: True))["processes"]]
    await asyncio.to_thread(worker.stop)
    assert not [one.pid for one in processes if one.is_running()]


async def test_a_killed_process_is_named_started_again_and_loses_nothing(
    pipe: Pipeline, worker: Worker, http: httpx.AsyncClient
) -> None:
    worker.start()
    await worker.ready()
    before = await readiness(http, worker, lambda answer: answer["status"] == "ready")
    await pipe.faults(LATENCY)
    tag = unique("killed-process")
    posts = [f"{tag}-post-{number}" for number in range(20)]
    since = await pipe.newest()
    for number, post in enumerate(posts):
        tenant = f"{tag}-{number % 4}"
        await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    victim = before["processes"][0]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(await pipe.all_announced(posts, since)) < 4:
            await asyncio.sleep(0.1)
    os.kill(victim["pid"], signal.SIGKILL)

    said = await readiness(http, worker, lambda answer: answer["status"] != "ready")
    assert victim["name"] in said["reason"]
    assert said["processes"][0]["state"] != "ready"
    missing = (await http.get(f"{worker.metrics_url}/metrics")).text
    assert f'vision_process_up{{process="{victim["name"]}"}} 0.0' in missing
    assert (await http.get(f"{worker.url}/api/v1/vision/stats")).status_code == 200, "the other process answers"
    after = await readiness(http, worker, lambda answer: answer["status"] == "ready")
    assert [one["name"] for one in after["processes"]] == [one["name"] for one in before["processes"]]
    assert after["processes"][0]["pid"] != victim["pid"]
    assert after["processes"][1]["pid"] == before["processes"][1]["pid"]
    assert after["processes"][0]["restarts"] == 1
    await pipe.announced(posts, since)
    await pipe.idle()
    events = await pipe.all_announced(posts, since)
    assert {post: len(entries) for post, entries in events.items()} == dict.fromkeys(posts, 1)
    assert {entries[0].event_type for entries in events.values()} == {"posts.vision.analyzed"}
    assert await asyncio.to_thread(worker.stop) < 60
