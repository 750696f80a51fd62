"""The acceptance guide, sentence by sentence, against the real stack. The names of the tests are its headings.

What runs in the worker's container is in `test_guide_container.py`. `guide.md` is the guide as it was given.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import asyncpg
import httpx
import orjson
import pytest
from neo4j import AsyncGraphDatabase

from tests.integration.pipeline import Pipeline, Worker, picture, unique
from vision_app.operations.neighbours import Announced, never_uploaded
from vision_app.settings import Settings
from vision_app.telemetry import metrics

GUIDE = (Path(__file__).parent / "guide.md").read_text()
VISION = str(Path(sys.executable).with_name("vision"))


@pytest.fixture
async def analyzed(pipe: Pipeline) -> Announced:
    """A post as the guide's step 3 makes it, with a picture that is there, worked off to the end."""
    tenant, post = unique("guide"), unique("guide")
    since = await pipe.newest()
    await pipe.publish(tenant, post, [await pipe.upload(tenant, "meme_cat.jpg")])
    event = (await pipe.announced([post], since))[post]
    await pipe.idle()
    return event


@pytest.mark.parametrize("name", re.findall(r"^\s+(\w+)=", GUIDE.partition("Запущенные сервисы")[0], re.MULTILINE))
def test_environment_variables(name: str) -> None:
    assert name.lower() in Settings.model_fields


def test_automatic_script(stack: Mapping[str, str], worker: Worker, pipe: Pipeline) -> None:
    """The sample's headings, in its order; polling instead of 90 seconds; exit code 0."""
    ran = _vision(stack, worker, "e2e")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    sample = GUIDE.partition("## Пример успешного E2E теста")[2]
    headings = re.findall(r"^(?:🧪|📋|📊|📤|🚀|⏳|🔍|✅) [^:(.\n]+", sample, re.MULTILINE)
    assert len(headings) >= 9
    places = [ran.stdout.find(heading) for heading in headings]
    assert -1 not in places, dict(zip(headings, places, strict=True))
    assert places == sorted(places)
    listed = re.findall(r"^\d\. ✅ ", GUIDE.partition("Скрипт выполняет:")[2].partition("---")[0], re.MULTILINE)
    assert re.findall(r"Шаг (\d):", ran.stdout) == [str(number + 1) for number in range(len(listed))]
    for done in re.findall(r"^ +✅ [\w ]+[!\w]", sample, re.MULTILINE):
        assert done in ran.stdout, done
    for field in ("Analyzed At", "Provider", "Model", "Is Meme", "Tokens Used", "Media SHA256", "S3 Key", "Trace ID"):
        assert f"{field}: " in ran.stdout
    [trace] = re.findall(r"Trace ID: (e2e_test_\w+)", ran.stdout)
    assert any(trace in line for line in _log(worker)), "step 4 greps the log for it"


def test_automatic_script_with_post_id(stack: Mapping[str, str], worker: Worker, pipe: Pipeline) -> None:
    post = unique("e2e")
    ran = _vision(stack, worker, "e2e", "--post-id", post)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"Post ID: {post}" in ran.stdout


def test_automatic_script_fails_when_nothing_works(stack: Mapping[str, str], tmp_path: Path) -> None:
    """Upstream's script ended with 0 whatever happened."""
    nobody = Worker(stack, tmp_path, 9)
    ran = _vision(stack, nobody, "e2e", "--timeout", "3", REDIS_URL="redis://127.0.0.1:1/0")
    assert ran.returncode not in (0, None)


def test_step_1_vision_worker_is_registered(worker: Worker, pipe: Pipeline) -> None:
    grep = re.compile(r"(vision|supervisor|Registered task)")
    assert any("Vision Analysis task registered with supervisor" in line for line in filter(grep.search, _log(worker)))


async def test_step_4_the_log_is_found_by_trace_id(worker: Worker, analyzed: Announced) -> None:
    lines = [orjson.loads(line) for line in _log(worker) if str(analyzed.body["trace_id"]) in line]
    events = {line["event"] for line in lines if line["trace_id"] == analyzed.body["trace_id"]}
    assert {"analysis_completed", "post_completed", "results_saved"} <= events


async def test_step_4_metrics(worker: Worker, analyzed: Announced) -> None:
    assert any(line.startswith("vision_") for line in (await _metrics(worker)).splitlines())


async def test_what_the_alerts_look_at_is_measured(worker: Worker, analyzed: Announced) -> None:
    """Not of the guide: what tells of loss is seen by a scrape, and is nothing once everything is worked off."""
    async with asyncio.timeout(40):
        while True:
            page = await _metrics(worker)
            lags = dict(re.findall(r'^vision_consumer_lag{topic="(\S+)"} (\S+)$', page, re.MULTILINE))
            assert set(lags) == set(metrics.WORK_TOPICS)
            if set(lags.values()) == {"0.0"}:
                break
            await asyncio.sleep(0.2)
    assert re.search(r"^vision_ready 1\.0$", page, re.MULTILINE)
    assert re.findall(r'^s3_operations_total{operation="put",result="success"} [1-9]', page, re.MULTILINE)
    assert len(re.findall(r"^stream_consumer_lag{.*} 0\.0$", page, re.MULTILINE)) == 2


async def test_step_4_redis_stream_state(pipe: Pipeline, analyzed: Announced) -> None:
    stream = "stream:posts:vision:uploaded"
    assert await pipe.redis.xlen(stream) > 0
    [group] = [group for group in await pipe.redis.xinfo_groups(stream) if group["name"] == b"vision_workers"]
    assert group["pending"] == 0


async def test_step_5_through_the_database(pipe: Pipeline, analyzed: Announced) -> None:
    [sql] = re.findall(r"```sql\n(.*?)```", GUIDE, re.DOTALL)
    connection = await asyncpg.connect(pipe.settings.database_url.get_secret_value())
    try:
        [row] = await connection.fetch(sql.replace("your-post-uuid", str(analyzed.body["post_id"])))
    finally:
        await connection.close()
    assert all(value is not None for value in row.values()), dict(row)
    assert (row["vision_provider"], row["vision_is_meme"]) == ("gigachat", True)
    assert row["vision_model"].startswith("GigaChat-Pro")


async def test_step_5_through_the_api(worker: Worker, analyzed: Announced) -> None:
    headers = {"X-Trace-ID": "test_xxxxx"}
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:
        answer = await client.get(f"/api/v1/vision/posts/{analyzed.body['post_id']}", headers=headers)
    assert answer.status_code == 200
    body = answer.json()
    assert (body["trace_id"], body["provider"], body["is_meme"]) == ("test_xxxxx", "gigachat", True)
    wanted = "post_id analyzed_at provider model tokens_used classification ocr_text is_meme media_count s3_vision_keys"
    assert set(wanted.split()) | {"s3_media_keys", "trace_id"} <= body.keys()


@pytest.mark.parametrize("form", [["--post-id"], ["check", "--post-id"]], ids=["guide", "upstream"])
async def test_step_5_through_the_diagnostic_cli(
    stack: Mapping[str, str], worker: Worker, analyzed: Announced, form: list[str]
) -> None:
    ran = await asyncio.to_thread(_vision, stack, worker, "diag", *form, str(analyzed.body["post_id"]))
    assert ran.returncode == 0, ran.stderr
    for field in ("Status", "Analyzed At", "Provider", "Model", "Tokens Used", "Is Meme", "S3 Keys Count"):
        assert field in ran.stdout


@pytest.mark.parametrize("page", re.findall(r"curl http://localhost:8000(/api/v1/storage/\w+) \| jq", GUIDE))
async def test_components_1_s3_storage(worker: Worker, analyzed: Announced, page: str) -> None:
    """`quota` and `stats` answer the guide's curl with the fields of the assistant's API."""
    fields = {
        "/api/v1/storage/quota": "total_gb limit_gb usage_percent by_type emergency_threshold_gb last_updated",
        "/api/v1/storage/stats": "current limits policies last_updated",
    }[page]
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:
        body = (await client.get(page)).raise_for_status().json()
    assert set(fields.split()) <= body.keys()
    held = body.get("current", body)
    assert held["total_gb"] > 0
    assert {"media", "vision", "crawl"} <= held["by_type"].keys()


def test_components_2_the_policy_is_there(stack: Mapping[str, str], worker: Worker) -> None:
    """`cat /app/config/vision_policy.yml`: the same file that is shipped, and it is valid."""
    assert _vision(stack, worker, "policy", "check").returncode == 0


async def test_components_3_budget_metrics(worker: Worker, analyzed: Announced) -> None:
    budget = [line for line in (await _metrics(worker)).splitlines() if "budget" in line]
    tenant = analyzed.body["tenant_id"]
    assert any(line.startswith(f'vision_budget_usage_gauge{{tenant_id="{tenant}"}}') for line in budget)
    assert any(line.startswith("vision_budget_gate_blocks_total{") for line in budget)


async def test_components_4_neo4j(pipe: Pipeline, analyzed: Announced) -> None:
    [cypher] = re.findall(r'cypher-shell -u neo4j -p changeme \\\n\s*"(.*?)"', GUIDE)
    auth = ("neo4j", pipe.settings.neo4j_password.get_secret_value())
    async with AsyncGraphDatabase.driver(pipe.settings.neo4j_uri, auth=auth) as driver:
        records, _, _ = await driver.execute_query(cypher)
    assert records
    assert all("ImageContent" in record["img"].labels for record in records)


def test_diagnosis_vision_worker_started(worker: Worker, pipe: Pipeline) -> None:
    assert any("Vision Analysis task started" in line for line in _log(worker))


async def test_diagnosis_the_feature_flag_stops_reading(
    stack: Mapping[str, str], pipe: Pipeline, worker: Worker, tmp_path: Path
) -> None:
    """FEATURE_VISION_ENABLED=false: the stream grows, nothing is read; the worker is up and says why."""
    await asyncio.to_thread(worker.stop)
    off = Worker(stack, tmp_path, 1, FEATURE_VISION_ENABLED="false")
    off.start()
    try:
        await off.ready()
        post = unique("off")
        since = await pipe.newest()
        entry = await pipe.publish(unique("off"), post, [await pipe.upload("default", picture())])
        [group] = await pipe.redis.xinfo_groups("stream:posts:vision:uploaded")
        assert group["last-delivered-id"].decode() < entry, "the stream grows, nothing is read"
        assert (await pipe.all_announced([post], since))[post] == []
        await asyncio.to_thread(off.stop)
    finally:
        off.end()
        worker.start()
        await worker.ready()
    await pipe.announced([post], since)


async def test_diagnosis_budget_exhausted(pipe: Pipeline, worker: Worker) -> None:
    """The log has "Budget exhausted" with tenant and reset time, the counter grows, a reset lets the work go on."""
    tenant, tag = unique("spent"), unique("spent")
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:
        (await client.put(f"/api/v1/budget/{tenant}", json={"limit": 3000})).raise_for_status()
        since = await pipe.newest()
        posts = [f"{tag}-{number}" for number in range(4)]
        for post in posts:
            await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
        await pipe.announced(posts, since)
    said = [orjson.loads(line) for line in _log(worker) if "Budget exhausted" in line and tenant in line]
    assert said
    assert all(line["tenant_id"] == tenant and line["reset_at"] for line in said)
    blocked = re.findall(
        rf'^vision_budget_gate_blocks_total{{.*tenant_id="{tenant}".*}} (\S+)$', await _metrics(worker), re.M
    )
    usage = re.findall(rf'^vision_budget_usage_gauge{{tenant_id="{tenant}"}} (\S+)$', await _metrics(worker), re.M)
    assert float(usage[0]) > 0
    assert any(float(count) > 0 for count in blocked)


async def test_diagnosis_not_saved(stack: Mapping[str, str], pipe: Pipeline, worker: Worker) -> None:
    """Processed, and vision_analyzed_at is NULL: the row is there all the same, and says why, in SQL and in diag."""
    post, since = unique("null"), await pipe.newest()
    await pipe.publish("default", post, [never_uploaded("default", post)])
    await pipe.announced([post], since)
    connection = await asyncpg.connect(pipe.settings.database_url.get_secret_value())
    try:
        [row] = await connection.fetch("SELECT * FROM post_enrichment WHERE post_id = $1", post)
    finally:
        await connection.close()
    assert (row["vision_analyzed_at"], row["status"]) == (None, "skipped")
    ran = await asyncio.to_thread(_vision, stack, worker, "diag", "--post-id", post)
    assert ran.returncode == 0
    assert "s3_missing" in ran.stdout


async def test_diagnosis_s3_quota_exceeded(
    stack: Mapping[str, str], worker: Worker, pipe: Pipeline, tmp_path: Path
) -> None:
    """An upload gets "Quota exceeded", the counter grows, `quota` shows the usage, `cleanup` needs no body."""
    [cleanup] = re.findall(r"curl -X POST (/api/v1/storage/cleanup)", GUIDE)
    tenant, file = unique("quota"), tmp_path / "large.png"
    file.write_bytes(picture() + bytes(20_000))
    limit = {"S3_PER_TENANT_LIMIT_GB": "0.00001"}  # the worker's own is 2, so that it is the command that refuses
    ran = await asyncio.to_thread(_vision, stack, worker, "upload", str(file), "--tenant", tenant, **limit)
    assert ran.returncode == 1
    assert "Quota exceeded" in ran.stderr
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False, timeout=60) as client:
        question = {"tenant_id": tenant, "size_bytes": 3 * 1024**3, "content_type": "media"}
        answer = (await client.post("/api/v1/storage/quota/check", json=question)).raise_for_status().json()
        assert (answer["allowed"], answer["reason"]) == (False, "tenant_limit")
        done = (await client.post(cleanup)).raise_for_status().json()
        assert {"deleted_count", "freed_gb", "duration_seconds"} <= done.keys()
    counted = re.findall(
        rf'^storage_quota_violations_total{{reason="tenant_limit",tenant_id="{tenant}"}} (\S+)$',
        await _metrics(worker),
        re.M,
    )
    assert [float(count) for count in counted] == [1]
    said = [orjson.loads(line) for line in _log(worker) if "Quota exceeded" in line and tenant in line]
    assert [line["reason"] for line in said] == ["tenant_limit"]


async def test_prometheus_storage_usage(worker: Worker, analyzed: Announced) -> None:
    [selected] = re.findall(r"^(storage_bucket_usage_gb{.*?})$", GUIDE, re.MULTILINE)

    async def size() -> float:
        found = re.findall(rf"^{re.escape(selected)} (\S+)$", await _metrics(worker), re.MULTILINE)
        return float(found[0])

    async with asyncio.timeout(30):  # the worker writes and shows its accounts every few seconds
        while not await size():
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\b(vision_\w+?)(?:_bucket)?[\[{]", GUIDE))))
async def test_prometheus_metrics(worker: Worker, analyzed: Announced, name: str) -> None:
    """Every name in the guide's PromQL has samples with the labels it selects."""
    samples = [line for line in (await _metrics(worker)).splitlines() if line.startswith(name)]
    assert samples, name
    for label in re.findall(rf"{name}{{(\w+)=", GUIDE):
        assert any(f"{label}=" in line for line in samples), (name, label)


async def test_redis_stream_metrics(pipe: Pipeline, analyzed: Announced) -> None:
    pending = await pipe.redis.xpending("stream:posts:vision:uploaded", "vision_workers")
    assert pending["pending"] == 0


async def test_checklist_metrics_are_updated(pipe: Pipeline, worker: Worker) -> None:
    tenant, post = unique("guide"), unique("guide")
    since, before = await pipe.newest(), await _count(worker, "vision_events_total", 'status="ok"')
    await pipe.publish(tenant, post, [await pipe.upload(tenant, picture())])
    await pipe.announced([post], since)
    await pipe.idle()
    assert await _count(worker, "vision_events_total", 'status="ok"') == before + 1
    for name in ("vision_analysis_requests_total", "vision_analysis_duration_seconds_count"):
        assert await _count(worker, name, 'status="success"', 'provider="gigachat"', f'tenant_id="{tenant}"') == 1
    assert await _count(worker, "vision_tokens_used_total", f'tenant_id="{tenant}"') > 0


async def test_checklist_the_posts_image_is_in_the_graph(pipe: Pipeline, analyzed: Announced) -> None:
    tenant, post = analyzed.body["tenant_id"], analyzed.body["post_id"]
    sha256 = analyzed.body["media"][0]["sha256"]
    auth = ("neo4j", pipe.settings.neo4j_password.get_secret_value())
    query = (
        "MATCH (:Post {tenant_id: $tenant, post_id: $post})-[:HAS_IMAGE]->"
        "(img:ImageContent {sha256: $sha256}) RETURN img"
    )
    async with AsyncGraphDatabase.driver(pipe.settings.neo4j_uri, auth=auth) as driver:
        records, _, _ = await driver.execute_query(query, tenant=tenant, post=post, sha256=sha256)
    assert len(records) == 1


async def test_checklist_trace_id_is_in_every_place(pipe: Pipeline, worker: Worker, analyzed: Announced) -> None:
    trace = str(analyzed.body["trace_id"])
    connection = await asyncpg.connect(pipe.settings.database_url.get_secret_value())
    try:
        stored = await connection.fetchval(
            "SELECT trace_id FROM post_enrichment WHERE post_id = $1", analyzed.body["post_id"]
        )
    finally:
        await connection.close()
    assert stored == trace
    assert [call["session_id"] for call in await pipe.billed(trace.removeprefix("t-"))] == [trace]
    assert sum(trace in line for line in _log(worker)) >= 4


def _vision(
    stack: Mapping[str, str], worker: Worker, *arguments: str, **extra: str
) -> subprocess.CompletedProcess[str]:
    ports = {"VISION_API_PORT": worker.url.rpartition(":")[2], "METRICS_PORT": worker.metrics_url.rpartition(":")[2]}
    environment = {**os.environ, **stack, **ports, **extra}
    return subprocess.run(
        [VISION, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def _log(worker: Worker) -> list[str]:
    return worker.log().splitlines()


async def _count(worker: Worker, name: str, *labels: str) -> float:
    """The sum of the samples with these labels."""
    samples = [line for line in (await _metrics(worker)).splitlines() if re.match(rf"{name}[{{ ]", line)]
    return sum(float(line.rpartition(" ")[2]) for line in samples if all(label in line for label in labels))


async def _metrics(worker: Worker) -> str:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{worker.metrics_url}/metrics")).text
