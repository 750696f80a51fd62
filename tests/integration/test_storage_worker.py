"""Storage as a running worker keeps it: API, accounts, metrics and log agree with a fresh listing of the bucket."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from click.testing import CliRunner, Result

from tests.integration.pipeline import Pipeline, Worker, picture, pipeline, unique
from tests.integration.storage import SCALED, SIZE, accounted, listed, place_of_its_own, put_old
from vision_app.cli import main
from vision_app.messages import Medium
from vision_app.operations.connections import postgres_of
from vision_app.retention.cleanup import clean_up
from vision_app.retention.limits import gib
from vision_app.settings import Settings, load_settings

VISION = str(Path(sys.executable).with_name("vision"))
EFFECT_SECONDS = 150
"""The keeper waits a minute after a failed try."""


@pytest.fixture(scope="module")
def place(stack: Mapping[str, str]) -> Settings:
    settings = load_settings(**{name.lower(): value for name, value in stack.items()})
    return asyncio.run(place_of_its_own(settings)).model_copy(update={"s3_media_max_gb": SCALED["s3_total_limit_gb"]})


@pytest.fixture(scope="module")
def variables(stack: Mapping[str, str], place: Settings) -> dict[str, str]:
    limits = {name.upper(): str(getattr(place, name)) for name in SCALED}
    own = {"S3_BUCKET": place.s3_bucket, "DATABASE_URL": place.database_url.get_secret_value()}
    return {**stack, **limits, **own}


@pytest.fixture(scope="module")
def worker(variables: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    running = Worker(variables, tmp_path_factory.mktemp("logs"), 1)
    running.start()
    yield running
    running.end()


@pytest.fixture
async def pipe(place: Settings, worker: Worker) -> AsyncIterator[Pipeline]:
    await worker.ready()
    async with pipeline(place) as opened:
        yield opened


@pytest.fixture
async def pool(place: Settings) -> AsyncIterator[Any]:
    async with postgres_of(place) as opened:
        yield opened


@pytest.fixture
async def api(worker: Worker, pipe: Pipeline) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{worker.url}/api/v1", trust_env=False, timeout=60) as client:
        yield client


async def metrics_of(worker: Worker) -> dict[str, float]:
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{worker.metrics_url}/metrics")).text
    # not splitlines(): tenants' names may hold what that takes for the end of a line
    lines = (line.rpartition(" ") for line in page.rstrip("\n").split("\n") if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


async def until(holds: Any) -> None:
    """Wait for what a worker does within a few seconds by itself."""
    deadline = time.monotonic() + EFFECT_SECONDS
    while not await holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


def vision(variables: Mapping[str, str], worker: Worker, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables, "VISION_API_PORT": worker.url.rpartition(":")[2]}
    return subprocess.run(
        [VISION, *arguments], env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def command(variables: Mapping[str, str], *arguments: str) -> Result:
    """The same command in this process, which has its libraries loaded."""
    return CliRunner().invoke(main, [*arguments], env=dict(variables))


async def agree(api: httpx.AsyncClient, worker: Worker, pipe: Pipeline, pool: Any) -> None:
    """API, table and metrics say what a fresh listing says."""
    found = await listed(pipe.s3)
    assert await accounted(pool) == found
    by_type = dict.fromkeys(("media", "vision", "crawl", "album", "other"), 0)
    for (_, content_type), (size, _) in found.items():
        by_type[content_type] += size
    quota = (await api.get("/storage/quota")).raise_for_status().json()
    assert quota["by_type"] == {name: gib(size) for name, size in by_type.items()}
    assert quota["total_gb"] == pytest.approx(gib(sum(by_type.values())))
    shown = await metrics_of(worker)
    assert {name: shown[f'storage_bucket_usage_gb{{content_type="{name}"}}'] for name in by_type} == quota["by_type"]
    for (tenant, content_type), (size, _) in found.items():
        assert shown[f'tenant_storage_usage_gb{{content_type="{content_type}",tenant_id="{tenant}"}}'] == gib(size)


async def test_what_the_worker_writes_is_in_the_accounts_without_a_listing(
    pipe: Pipeline, pool: Any, api: httpx.AsyncClient, worker: Worker, variables: Mapping[str, str], tmp_path: Path
) -> None:
    tenant, post = unique("acc"), unique("acc")
    await until(lambda: pool.fetchval("SELECT counted_at IS NOT NULL FROM storage_state"))
    counted = await pool.fetchval("SELECT counted_at FROM storage_state")
    file = tmp_path / "a.png"
    file.write_bytes(picture())
    done = await asyncio.to_thread(command, variables, "upload", str(file), "--tenant", tenant)
    assert done.exit_code == 0, done.output
    uploaded = orjson.loads(done.stdout)
    again = orjson.loads((await asyncio.to_thread(command, variables, "upload", str(file), "--tenant", tenant)).stdout)
    assert (uploaded["deduplicated"], again["deduplicated"]) == (False, True)
    assert uploaded["s3_key"] == f"media/{tenant}/{uploaded['sha256'][:2]}/{uploaded['sha256']}.png"
    since = await pipe.newest()
    await pipe.publish(tenant, post, [pipe_medium(uploaded)])
    event = (await pipe.announced([post], since))[post]
    assert event.event_type == "posts.vision.analyzed"
    await pipe.idle()

    async def booked() -> bool:
        return await accounted(pool) == await listed(pipe.s3)

    await until(booked)
    assert await pool.fetchval("SELECT counted_at FROM storage_state") == counted, "no listing has helped"
    usage = (await api.get(f"/storage/usage/{tenant}")).json()
    assert {name for name, size in usage["by_type"].items() if size} == {"media", "vision"}

    async def shown() -> bool:
        return f'tenant_storage_usage_gb{{content_type="vision",tenant_id="{tenant}"}}' in await metrics_of(worker)

    await until(shown)
    await agree(api, worker, pipe, pool)


def pipe_medium(uploaded: Mapping[str, Any]) -> Medium:
    return Medium(**{name: uploaded[name] for name in ("sha256", "s3_key", "mime_type", "size_bytes")})


async def test_a_post_whose_picture_and_answer_have_gone_says_so(
    pipe: Pipeline, place: Settings, pool: Any, api: httpx.AsyncClient
) -> None:
    tenant, post = unique("exp"), unique("exp")
    medium = await pipe.upload(tenant, picture())
    since = await pipe.newest()
    await pipe.publish(tenant, post, [medium])
    await pipe.announced([post], since)
    await pipe.idle()
    before = (await api.get(f"/vision/posts/{post}")).json()
    assert (before["expired"], before["expired_keys"]) == (False, [])
    await put_old(pipe.s3, [(key, 99) for key in before["s3_vision_keys"] + before["s3_media_keys"]])
    await pool.execute("UPDATE media_objects SET last_seen_at = now() - interval '99 days'")
    report = await clean_up(place, pipe.s3)
    assert report.deleted[("media", "ttl")] == 1
    after = (await api.get(f"/vision/posts/{post}")).json()
    assert after["expired"]
    assert sorted(after["expired_keys"]) == sorted(before["s3_vision_keys"] + before["s3_media_keys"])
    told = ("classification", "ocr_text", "provider", "s3_media_keys", "enrichments")
    assert [after[name] for name in told] == [before[name] for name in told], "the row stays readable"
    shown = (await api.get(f"/vision/media/{medium.sha256}")).json()
    assert (shown["expired"], shown["expired_at"] is not None, bool(shown["description"])) == (True, True, True)
    [row] = (await api.get("/vision/posts", params={"tenant_id": tenant})).json()["results"]
    assert row["expired"]


async def test_a_full_bucket_comes_down_on_demand_and_all_numbers_agree(
    pipe: Pipeline, pool: Any, api: httpx.AsyncClient, worker: Worker, variables: Mapping[str, str]
) -> None:
    """14.5 of 15: `vision storage cleanup --dry-run`, then the guide's POST without a body."""
    tenants = {unique(name): count for name, count in {"small": 10, "middle": 35, "large": 45, "huge": 50}.items()}
    await put_old(
        pipe.s3, [(f"media/{t}/00/{n:03}.jpg", 20 - n / 100) for t, count in tenants.items() for n in range(count)]
    )
    dry = await asyncio.to_thread(command, variables, "storage", "cleanup", "--dry-run", "--json")
    assert dry.exit_code == 0, dry.output
    assert (await listed(pipe.s3)).keys() >= {(tenant, "media") for tenant in tenants}
    answer = (await api.post("/storage/cleanup")).raise_for_status().json()
    assert answer["deleted_count"] == orjson.loads(dry.stdout)["deleted_count"] > 0
    assert answer["total_gb"] <= SCALED["s3_cleanup_target_gb"]
    assert answer["shortfall_gb"] == 0
    await agree(api, worker, pipe, pool)
    left = {tenant: (await listed(pipe.s3))[tenant, "media"][1] for tenant in tenants}
    assert sorted(left.values())[0] == 10, "whoever holds little keeps it"
    assert max(left.values()) <= 20, "a tenant may hold 2 of 15"
    assert (await metrics_of(worker))['storage_cleanup_deleted_total{content_type="media",reason="tenant_limit"}'] > 0
    assert (await api.post("/storage/cleanup", json={"dry_run": True})).json()["deleted_count"] == 0


async def test_an_exceeded_quota_is_reported_counted_and_acted_upon(
    pipe: Pipeline, pool: Any, api: httpx.AsyncClient, worker: Worker, variables: Mapping[str, str], tmp_path: Path
) -> None:
    """The guide: "Quota exceeded" at an upload, `storage_quota_violations_total` grows, a clean-up helps."""
    tenant = unique("over")
    await put_old(pipe.s3, [(f"media/{tenant}/00/{n:03}.jpg", 20 - n / 100) for n in range(20)])
    (await api.post("/storage/cleanup", json={"dry_run": True})).raise_for_status()
    file = tmp_path / "b.png"
    file.write_bytes(picture() + bytes(SIZE))
    refused = await asyncio.to_thread(vision, variables, worker, "upload", str(file), "--tenant", tenant)
    assert refused.returncode == 1
    assert "Quota exceeded (tenant_limit)" in refused.stderr
    violations = f'storage_quota_violations_total{{reason="tenant_limit",tenant_id="{tenant}"}}'
    assert (await metrics_of(worker))[violations] == 1
    said = [orjson.loads(line) for line in worker.log().splitlines() if "Quota exceeded" in line and tenant in line]
    assert [(line["tenant_id"], line["reason"]) for line in said] == [(tenant, "tenant_limit")]
    question = {"tenant_id": tenant, "size_bytes": 2 * SIZE, "content_type": "media"}
    assert (await api.post("/storage/quota/check", json=question)).json()["reason"] == "tenant_limit"
    freed = (await api.post("/storage/cleanup", json={"target_free_gb": SCALED["s3_total_limit_gb"] * 0.99})).json()
    assert freed["deleted_count"] >= 20
    assert (await api.post("/storage/quota/check", json=question)).json()["allowed"]
    accepted = await asyncio.to_thread(command, variables, "upload", str(file), "--tenant", tenant)
    assert accepted.exit_code == 0, accepted.output


async def test_a_worker_cleans_up_by_itself_when_asked_or_when_the_bucket_is_nearly_full(
    pipe: Pipeline, pool: Any, api: httpx.AsyncClient, worker: Worker
) -> None:
    """Found by its own count; nobody asks for anything."""
    await until(lambda: pool.fetchval("SELECT requested_at IS NULL AND counting_from IS NULL FROM storage_state"))
    tenants = [unique("auto") for _ in range(15)]
    await put_old(pipe.s3, [(f"media/{t}/00/{n:03}.jpg", 20 - n / 100) for t in tenants for n in range(10)])
    await pool.execute("UPDATE storage_state SET counted_at = NULL")

    async def down() -> bool:
        return sum(size for size, _ in (await listed(pipe.s3)).values()) <= 120 * SIZE

    await until(down)

    async def told() -> bool:
        return (await metrics_of(worker))['storage_emergency_cleanups_total{trigger_reason="threshold"}'] > 0

    await until(told)
    await until(lambda: pool.fetchval("SELECT cleaned_at > counted_at FROM storage_state"))
    await agree_soon(api, worker, pipe, pool)


async def agree_soon(api: httpx.AsyncClient, worker: Worker, pipe: Pipeline, pool: Any) -> None:
    """The metrics follow within seconds."""

    async def holds() -> bool:
        try:
            await agree(api, worker, pipe, pool)
        except (AssertionError, KeyError):
            return False
        return True

    await until(holds)


async def test_commands_show_the_same(
    pipe: Pipeline, api: httpx.AsyncClient, worker: Worker, variables: Mapping[str, str]
) -> None:
    shown = orjson.loads((await asyncio.to_thread(command, variables, "storage", "stats", "--json")).stdout)
    asked = (await api.get("/storage/stats")).json()
    assert (shown["current"], shown["limits"]) == (asked["current"], asked["limits"])
    text = (await asyncio.to_thread(command, variables, "storage", "quota")).stdout
    assert re.search(r"bucket: [\d.]+ of [\d.e-]+ GB \([\d.]+ %\), \d+ objects", text)
    objects = orjson.loads(
        (await asyncio.to_thread(command, variables, "storage", "ls", "--type", "media", "--json")).stdout
    )
    assert objects
    assert {one["content_type"] for one in objects} == {"media"}
    ttl = await asyncio.to_thread(vision, variables, worker, "storage", "ttl")
    assert (ttl.returncode, "would delete 0" in ttl.stdout) == (0, True), ttl.stdout + ttl.stderr
