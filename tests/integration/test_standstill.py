"""A stage that is held artificially is named with its place everywhere and set aside by hand; the account is whole."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from tests.integration.pipeline import Pipeline, Worker, picture, pipeline, unique
from vision_app.audit import take_account
from vision_app.lab.crash_points import RAISING, points
from vision_app.settings import Settings

STALL_SECONDS = 3
IN_TIME_SECONDS = STALL_SECONDS + 12
HELD: dict[str, tuple[str, str]] = {
    # stage: (where it is held, the topic or stream of the record that it holds then)
    "redis_in": ("vision_app.streams.outbox:Outbox.deliver", "stream:posts:vision:uploaded"),
    "policy": ("vision_app.streams.outbox:Outbox.deliver", "posts.vision.uploaded"),
    "posts": ("vision_app.streams.actor:Actor.run.in_turn", "vision.posts"),
    "media": ("agents.media:media_agent.check", "vision.media"),
    "budget": ("vision_app.streams.actor:Actor.run.in_turn", "vision.budget"),
    "analysis": ("vision_app.analysis.analyst:Analyst._call", "vision.analysis"),
    "sink-postgres": ("vision_app.streams.batches:Batches._try_until_handled", "vision.sink.postgres"),
    "sink-s3": ("vision_app.streams.batches:Batches._try_until_handled", "vision.sink.s3"),
    "sink-neo4j": ("vision_app.streams.batches:Batches._try_until_handled", "vision.sink.neo4j"),
    "redis_out": ("vision_app.streams.batches:Batches._try_until_handled", "posts.vision.analyzed"),
}


@pytest.fixture(scope="module")
def raising(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("held") / "raising"


@pytest.fixture(scope="module")
def worker(stack: Mapping[str, str], raising: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    extra = {RAISING: f"@{raising}", "VISION_STALL_SECONDS": str(STALL_SECONDS)}
    running = Worker(stack, tmp_path_factory.mktemp("logs"), 1, **extra)
    running.start("crash points")
    yield running
    running.end()


@pytest.fixture
async def pipe(stack_settings: Settings, worker: Worker, raising: Path) -> AsyncIterator[Pipeline]:
    let_go(raising)
    if not worker.alive:
        worker.start("crash points")
    await worker.ready()
    async with pipeline(stack_settings) as opened:
        yield opened
    let_go(raising)
    if not worker.alive or (await readiness(worker, worker.metrics_url))[0] != 200:
        worker.end()  # a test that failed leaves nothing to the next


@pytest.fixture
def vision(stack: Mapping[str, str], worker: Worker, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs `vision` as an operator does, and returns its exit code and output."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("VISION_")},
        **stack,
        "VISION_HOME": str(tmp_path / "no-stack-of-its-own"),
        "VISION_API_PORT": worker.url.rpartition(":")[2],
        "METRICS_PORT": worker.metrics_url.rpartition(":")[2],
        "COLUMNS": "300",
    }

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [Path(sys.executable).with_name("vision"), *arguments], env=environment, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    return run


def hold(raising: Path, stage: str, how: str = "hang") -> None:
    function, _ = HELD[stage]
    point = next(point for point in points() if point.startswith(f"{function}#"))
    raising.write_text(f"{point} 1 {how}@{stage}\n")


def let_go(raising: Path) -> None:
    raising.write_text("")


async def readiness(worker: Worker, url: str = "") -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        answer = await client.get(f"{url or worker.url}/readyz")
        return answer.status_code, answer.json()


async def stalled(worker: Worker, stage: str, seconds: float = IN_TIME_SECONDS) -> dict[str, Any]:
    """The stall of a stage, as the metrics port says; fails when none is told of in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        status, body = await readiness(worker, worker.metrics_url)
        found = [stall for stall in body["stalls"] if stall["stage"] == stage]
        if status == 503 and found:
            stall: dict[str, Any] = found[0]
            return stall
        await asyncio.sleep(0.2)
    raise AssertionError(f"{stage} was never said to stand still: {body}")


async def metric(worker: Worker, stage: str) -> float:
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{worker.metrics_url}/metrics")).text
    [line] = [line for line in text.splitlines() if line.startswith(f'vision_stalled_seconds{{stage="{stage}"}}')]
    return float(line.rpartition(" ")[2])


async def account_is_whole(settings: Settings, since_ms: int, tenant: str) -> None:
    account = await take_account(settings, since_ms=since_ms, tenants=[tenant])
    assert "\n".join(account.discrepancies) == ""


QUICK = ("redis_in", "budget", "analysis", "sink-postgres")
"""One of each kind of stage. Each takes half a minute, so the others are held by `make load` only."""


@pytest.mark.parametrize(
    "stage", [stage if stage in QUICK else pytest.param(stage, marks=pytest.mark.load) for stage in HELD]
)
async def test_a_stalled_stage_is_named_everywhere_and_freed_by_setting_its_record_aside(
    stage: str, pipe: Pipeline, worker: Worker, raising: Path, vision: Callable[..., tuple[int, str]]
) -> None:
    tenant, since, since_ms = unique(f"held-{stage}"), await pipe.newest(), round(time.time() * 1000)
    await pipe.publish(tenant, f"{tenant}-before", [await pipe.upload(tenant, picture())])
    await pipe.announced([f"{tenant}-before"], since)
    await pipe.idle()
    held, after = f"{tenant}-held", f"{tenant}-after"
    hold(raising, stage)
    await pipe.publish(tenant, held, [await pipe.upload(tenant, picture())])

    stall = await stalled(worker, stage)
    place = stall["place"]
    assert (stall["topic"], place.startswith(f"{stall['topic']}-")) == (HELD[stage][1], True)
    status, body = await readiness(worker)
    assert (status, body["status"]) == (503, "not_ready")
    assert f"{stage} at {place}" in body["reason"]
    assert await metric(worker, stage) >= STALL_SECONDS
    assert [line for line in worker.log().splitlines() if "work_stalled" in line and place in line]
    code, said = await asyncio.to_thread(vision, "doctor")
    assert code == 1
    assert f"{stage} at {place} has stood still since" in said
    _, said = await asyncio.to_thread(vision, "trace", held, "--tenant", tenant)
    assert f"{stage} at {place} has stood still since" in " ".join(said.split()), said

    code, said = await asyncio.to_thread(vision, "dlq", "take", place, "--reason", "held by a test", "--dry-run")
    assert code == 0, said
    assert stage in said
    assert (await readiness(worker))[0] == 503, "a dry run changes nothing"
    code, said = await asyncio.to_thread(vision, "dlq", "take", place, "--reason", "held by a test", "--json")
    assert (code, json.loads(said)["set_aside"]) == (0, True), said

    await worker.ready()
    assert await metric(worker, stage) == 0
    await pipe.publish(tenant, after, [await pipe.upload(tenant, picture())])
    await pipe.announced([after], since)
    await pipe.idle()
    await account_is_whole(pipe.settings, since_ms, tenant)


async def test_a_record_that_comes_again_after_a_restart_is_set_aside(
    pipe: Pipeline, worker: Worker, raising: Path, vision: Callable[..., tuple[int, str]]
) -> None:
    tenant, since, since_ms = unique("held-restart"), await pipe.newest(), round(time.time() * 1000)
    hold(raising, "media")
    await pipe.publish(tenant, f"{tenant}-held", [await pipe.upload(tenant, picture())])
    place = (await stalled(worker, "media"))["place"]
    worker.kill()
    code, said = await asyncio.to_thread(vision, "dlq", "take", place, "--reason", "held by a test", "--wait", "0")
    assert code == 3, said
    assert "no worker answers" in said
    worker.start("crash points")  # with the same file: the record would be held again
    await worker.ready()
    await pipe.announced([f"{tenant}-held"], since)
    await pipe.idle()
    assert "held by a test" in (await asyncio.to_thread(vision, "dlq", "show", place))[1]
    await account_is_whole(pipe.settings, since_ms, tenant)


async def test_a_blocked_event_loop_is_reported_on_the_metrics_port(
    pipe: Pipeline, worker: Worker, raising: Path, vision: Callable[..., tuple[int, str]]
) -> None:
    tenant, since = unique("blocked"), await pipe.newest()
    hold(raising, "policy", "block")
    await pipe.publish(tenant, f"{tenant}-post", [await pipe.upload(tenant, picture())])
    stall = await stalled(worker, "event_loop")
    assert "blocked" in stall["reason"]
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{worker.metrics_url}/healthz")).status_code == 503
    assert await metric(worker, "event_loop") >= STALL_SECONDS
    assert "time.sleep" in worker.log(), "the log names the line that blocks"
    code, said = await asyncio.to_thread(vision, "doctor")
    assert code == 1
    assert "event_loop" in said
    worker.kill()
    let_go(raising)
    worker.start("crash points")
    await worker.ready()
    await pipe.announced([f"{tenant}-post"], since)


async def test_a_record_that_blocks_nothing_is_not_set_aside(
    pipe: Pipeline, vision: Callable[..., tuple[int, str]]
) -> None:
    tenant, since = unique("not-taken"), await pipe.newest()
    await pipe.publish(tenant, f"{tenant}-post", [await pipe.upload(tenant, picture())])
    await pipe.announced([f"{tenant}-post"], since)
    await pipe.idle()
    entry = (await pipe.redis.xrevrange("stream:posts:vision:uploaded", count=1))[0][0].decode()
    for place, why in (
        ("nonsense", "is no place"),
        ("vision.dlq-0-0", "no worker reads vision.dlq"),
        ("vision.media-0-999999", "there is no record at vision.media-0-999999"),
        ("vision.media-99-0", "there is no record at vision.media-99-0"),
        (f"stream:posts:vision:uploaded-{entry}", "is acknowledged: it holds nothing up"),
        ("stream:posts:vision:uploaded-5-0", "there is no entry 5-0"),
        ("stream:other-5-0", "stream:other is no input stream"),
    ):
        code, said = await asyncio.to_thread(vision, "dlq", "take", place, "--reason", "x")
        assert (code, why in said, "Traceback" in said) == (1, True, False), said
    marked = str(await cast(Any, pipe.redis).hgetall("vision:set_aside"))
    assert entry not in marked, "nothing was marked"
    code, said = await asyncio.to_thread(vision, "dlq", "take", "vision.media-0-0")
    assert (code, "--reason" in said) == (2, True)
