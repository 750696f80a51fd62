"""A budget that runs out under parallel posts, and everything an operator can do about it, on the real stack.

A worker whose policy allows no OCR when the money is gone, and after it one whose policy does. The limit is 5,000
tokens, what a few calls may cost; no two pictures are the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
from click.testing import CliRunner

from tests.integration.pipeline import Pipeline, Worker, picture, pipeline, unique
from vision_app.cli import main
from vision_app.operations.neighbours import Announced
from vision_app.providers.ocr import Tesseract
from vision_app.settings import Settings, load_settings
from vision_app.stores.budget_mirror import sentinel_key, spent_key
from vision_app.stores.posts import PostsReader

LIMIT = 5000
POSTS = [20, pytest.param(200, marks=[pytest.mark.load, pytest.mark.timeout(1800)])]
WHOLE_SECONDS = 800
RESETS = 4
"""So many times the day's money is spent and given again, before the limit is raised for the rest."""
PLENTY = 1_000_000
TOLD_SECONDS = 240
"""Within so many all that wait are told, those that were still on their way when the money went included: the time the
pipeline takes for 200 posts on a machine that does much else."""
SAMPLE_SECONDS = 0.05
POLICY = """
allowed_mime_types: {{images: [image/png], documents: []}}
budget_gates: {{fallback_to_ocr_if_exhausted: {ocr}, sampling_threshold_per_day: 3000}}
sampling: {{per_post_max_images: 2}}
routing: {{ocr_only_if: [quota_exhausted]}}
"""


def _worker(stack: Mapping[str, str], folder: Path, *, ocr: bool) -> Worker:
    policy = folder / "policy.yml"
    policy.write_text(POLICY.format(ocr=str(ocr).lower()), "utf-8")
    settings = {"VISION_POLICY_CONFIG_PATH": str(policy), "VISION_MAX_DAILY_TOKENS": str(LIMIT)}
    running = Worker(stack, folder, 1, **settings)
    running.start()
    return running


@pytest.fixture(scope="module")
def worker(stack: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    running = _worker(stack, tmp_path_factory.mktemp("waiting"), ocr=False)
    yield running
    running.end()


class Watch:
    """Looks at a tenant's budget through the API every 50 ms."""

    def __init__(self, pipe: Pipeline, worker: Worker, tenant: str) -> None:
        self._pipe, self._worker, self._tenant = pipe, worker, tenant
        self.seen: list[dict[str, Any]] = []

    async def _look(self) -> None:
        async with httpx.AsyncClient(base_url=self._worker.url, trust_env=False) as client:
            while True:
                self.seen.append((await client.get(f"/api/v1/budget/{self._tenant}")).json())
                await asyncio.sleep(SAMPLE_SECONDS)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    @property
    def most(self) -> int:
        return max(int(state["spent"] + state["reserved"]) for state in self.seen)


async def _publish(pipe: Pipeline, tenant: str, count: int) -> list[str]:
    """Posts of one picture each, all at once; no picture was seen before."""
    posts = [f"{tenant}-{number}" for number in range(count)]
    media = [await pipe.upload(tenant, picture()) for _ in posts]
    await asyncio.gather(*(pipe.publish(tenant, post, [medium]) for post, medium in zip(posts, media, strict=True)))
    return posts


def _status(event: Announced) -> str:
    item = event.body["enrichments"][0]
    return str(item.get("provider") or item["status"])


async def _until(look: Callable[[], Any], what: str, seconds: float = 40) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := await look()):
        assert time.monotonic() < deadline, f"never came: {what}"
        await asyncio.sleep(0.1)
    return found


async def _post(worker: Worker, tenant: str, action: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:
        answer = await client.post(f"/api/v1/budget/{tenant}/{action}", headers={"X-Operator": "test"})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def _actions(settings: Settings, tenant: str) -> list[tuple[str, str, int | None]]:
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        query = "SELECT action, operator, value FROM budget_actions WHERE tenant_id = $1 ORDER BY id"
        return [tuple(row) for row in await connection.fetch(query, tenant)]
    finally:
        await connection.close()


async def _metric(worker: Worker, line: str) -> float:
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{worker.metrics_url}/metrics")).text
    return sum(float(found.rpartition(" ")[2]) for found in page.splitlines() if found.startswith(line))


@pytest.mark.parametrize("count", POSTS)
async def test_simultaneous_posts_never_overspend_and_deferred_ones_continue_after_a_reset(
    pipe: Pipeline, worker: Worker, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    tenant = unique("waiting")
    watch = Watch(pipe, worker, tenant)
    since = await pipe.newest()
    midnight = (datetime.now(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    async with watch.watching():
        posts = await _publish(pipe, tenant, count)
        first = await pipe.announced(posts, since, WHOLE_SECONDS)
    assert watch.most <= LIMIT
    assert len(watch.seen) > 5
    how = {post: _status(event) for post, event in first.items()}
    assert set(how.values()) == {"gigachat", "deferred"}
    deferred = [post for post in posts if how[post] == "deferred"]
    for post in deferred:
        item = first[post].body["enrichments"][0]
        assert (item["reason"], item["details"]["deferred"]) == ("budget", True)
        assert datetime.fromisoformat(item["details"]["reset_at"]) == midnight
    gone = min(datetime.fromisoformat(line["timestamp"]) for line in _exhausted(worker, tenant))
    told = max(int(first[post].entry_id.partition("-")[0]) / 1000 for post in deferred)
    assert told - gone.timestamp() < TOLD_SECONDS
    await _everything_that_shows_it(pipe, worker, tenant, len(deferred))

    calls = len(await pipe.billed(tenant))
    assert calls == count - len(deferred)
    published = await pipe.redis.xlen(pipe.settings.input_streams[0])
    vision = _command_line(worker, monkeypatch)
    watch.seen.clear()
    async with watch.watching():
        for _ in range(RESETS):
            assert (await vision("budget", "reset", tenant))["limit"] == LIMIT
            await _until(partial(_moved_on, worker, tenant), "the reset's money is spent", WHOLE_SECONDS)
    assert watch.most <= LIMIT
    left = (await pipe.budget(worker, tenant))["waiting"]
    assert left < len(deferred)
    if left:
        await vision("budget", "set", str(PLENTY), tenant)
    await _until(partial(_all_analyzed, pipe, posts, since), "an analysis of every post", WHOLE_SECONDS)
    assert await pipe.redis.xlen(pipe.settings.input_streams[0]) == published
    assert len(await pipe.billed(tenant)) == count
    state = await pipe.budget(worker, tenant)
    assert (state["waiting"], state["open_grants"], state["reserved"]) == (0, 0, 0)
    actions = [action for action, _, _ in await _actions(pipe.settings, tenant)]
    assert actions == ["reset"] * RESETS + ["set_limit"] * (left > 0)


async def _moved_on(worker: Worker, tenant: str) -> bool:
    """The reset's money is spent: nothing is under way and who still waits was told so."""
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:
        queue = (await client.get(f"/api/v1/budget/{tenant}/parked")).json()
        state = (await client.get(f"/api/v1/budget/{tenant}")).json()
    told = all(task["announced"] for task in queue["tasks"])
    return told and state["open_grants"] == 0 and (state["spent"] > 0 or not queue["tasks"])


async def _all_analyzed(pipe: Pipeline, posts: list[str], since: str) -> bool:
    events = await pipe.all_announced(posts, since)
    return all(_status(announced[-1]) == "gigachat" for announced in events.values())


def _exhausted(worker: Worker, tenant: str) -> list[dict[str, Any]]:
    """The log's lines that say that the tenant's money is gone."""
    lines = [orjson.loads(line) for line in worker.log().splitlines() if "Budget exhausted" in line]
    return [line for line in lines if line["tenant_id"] == tenant]


async def _everything_that_shows_it(pipe: Pipeline, worker: Worker, tenant: str, deferred: int) -> None:
    """Log, metrics, the mirror in Redis and the queue agree with the ledger."""
    state = await pipe.budget(worker, tenant)
    assert (state["waiting"], state["open_grants"], state["limit"]) == (deferred, 0, LIMIT)
    ours = _exhausted(worker, tenant)
    assert ours
    assert {line["reset_at"] for line in ours} == {state["reset_at"].replace("Z", "+00:00")}
    blocks = f'vision_budget_gate_blocks_total{{reason="daily_limit",tenant_id="{tenant}"}}'
    assert await _metric(worker, blocks) == deferred
    assert await _metric(worker, f'vision_budget_usage_gauge{{tenant_id="{tenant}"}}') == state["spent"]

    async def shown() -> bool:
        value = await pipe.redis.get(spent_key(tenant, state["day"]))
        return value is not None and int(value) == state["spent"]

    await _until(shown, "the ledger's spending in Redis")


async def test_the_guides_command_in_redis_resets(pipe: Pipeline, worker: Worker) -> None:
    tenant = unique("del")
    since = await pipe.newest()
    posts = await _publish(pipe, tenant, 5)
    first = await pipe.announced(posts, since)
    assert "deferred" in {_status(event) for event in first.values()}

    async def sentinel() -> bool:
        return bool(await pipe.redis.exists(sentinel_key(tenant)))

    await _until(sentinel, "the sentinel")
    assert await pipe.redis.delete(f"budget:tenant:{tenant}:*") == 1
    await _until(partial(_all_analyzed, pipe, posts, since), "an analysis of every post")
    await _until(sentinel, "the sentinel again")
    assert await _actions(pipe.settings, tenant) == [("reset", "redis DEL", None)]


async def test_the_command_line_pauses_and_resumes_a_tenant(
    pipe: Pipeline, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = unique("paused")
    vision = _command_line(worker, monkeypatch)
    assert (await vision("pause", tenant))["paused"] is True
    since = await pipe.newest()
    posts = await _publish(pipe, tenant, 2)

    async def waiting() -> bool:
        return bool((await pipe.budget(worker, tenant))["waiting"] == 2)

    await _until(waiting, "two tasks in the queue")
    listed = await vision("budget", "parked", "ls", tenant)
    assert {task["post_id"] for task in listed["tasks"]} == set(posts)
    assert await pipe.billed(tenant) == []

    number = listed["tasks"][0]["number"]
    dropped = await vision("budget", "parked", "drop", str(number), "--tenant", tenant)
    assert dropped["waiting"] == 1
    gone = listed["tasks"][0]["post_id"]
    event = (await pipe.announced([gone], since))[gone]
    assert event.body["reasons"][0]["details"]["dropped"] is True

    assert (await vision("resume", tenant))["paused"] is False
    left = listed["tasks"][1]["post_id"]
    assert _status((await pipe.announced([left], since))[left]) == "gigachat"
    assert [action for action, _, _ in await _actions(pipe.settings, tenant)] == ["pause", "resume"]
    assert all(operator.startswith("cli ") for _, operator, _ in await _actions(pipe.settings, tenant))


async def test_pausing_names_the_tenant_and_all_means_every_tenant(
    pipe: Pipeline, worker: Worker, monkeypatch: pytest.MonkeyPatch, stack: Mapping[str, str]
) -> None:
    """Whoever types `vision pause` in a hurry must not believe that everything stands still."""
    ours = [unique("all") for _ in range(2)]
    vision = _command_line(worker, monkeypatch)
    for name, value in stack.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("S3_DEFAULT_TENANT_ID", ours[0])
    known: list[str] = []

    async def tenants(reader: PostsReader) -> list[str]:
        known.extend(await everyone(reader))
        return ours[1:]  # all others belong to other tests

    everyone = PostsReader.tenants
    monkeypatch.setattr(PostsReader, "tenants", tenants)  # patched: other tests keep their tenants in the same Postgres
    one = await asyncio.to_thread(CliRunner().invoke, main, ["pause"])
    assert f"Only {ours[0]} (S3_DEFAULT_TENANT_ID) is paused" in one.stderr
    await vision("budget", "set", "default", ours[1])

    assert [state["tenant_id"] for state in await vision("pause", "--all")] == ours[1:], "the first was paused before"
    assert set(ours) <= set(known)
    assert await vision("pause", "--all") == []
    woken = {state["tenant_id"]: state["paused"] for state in await vision("resume", "--all")}
    assert woken == dict.fromkeys(ours, False)
    both = await asyncio.to_thread(CliRunner().invoke, main, ["pause", ours[0], "--all"])
    assert both.exit_code == 2


async def test_limits_from_the_command_line(pipe: Pipeline, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = unique("limit")
    vision = _command_line(worker, monkeypatch)
    assert (await vision("budget", "set", "6_000", tenant))["limit"] == 6000
    assert (await vision("budget", "show", tenant))["default_limit"] is False
    assert (await vision("budget", "set", "default", tenant))["limit"] == LIMIT
    assert (await vision("budget", "reset", tenant))["spent"] == 0
    assert (await vision("budget", "parked", "drop", "--all", "--tenant", tenant))["waiting"] == 0
    assert [(a, v) for a, _, v in await _actions(pipe.settings, tenant)] == [
        ("set_limit", 6000),
        ("set_limit", None),
        ("reset", None),
    ]
    result = await asyncio.to_thread(CliRunner().invoke, main, ["budget", "show", tenant])
    assert result.exit_code == 0
    assert "5,000 tokens" in result.output


def _command_line(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("VISION_API_PORT", worker.url.rpartition(":")[2])

    async def vision(*arguments: str) -> Any:
        result = await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "--json"])
        assert result.exit_code == 0, result.output
        return orjson.loads(result.output)

    return vision


async def test_posts_are_sampled_once_the_tenant_has_spent_enough(pipe: Pipeline, worker: Worker) -> None:
    """The policy keeps two pictures of a post from 3,000 tokens on; who has spent less keeps all."""
    tenant = unique("sampled")
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:
        assert (await client.put(f"/api/v1/budget/{tenant}", json={"limit": 100_000})).status_code == 202
    since = await pipe.newest()
    posts = await _publish(pipe, tenant, 1)
    await pipe.announced(posts, since)
    await _until(partial(_shows, pipe, tenant, 1), "the tenant's spending in Redis")
    assert int(await pipe.redis.get(spent_key(tenant, _today()))) < 3000

    async def sampled() -> bool:
        """Whether a post of three pictures loses one; what was spent is looked up every two seconds."""
        posts.append(f"{tenant}-{len(posts)}")
        since = await pipe.newest()
        await pipe.publish(tenant, posts[-1], [await pipe.upload(tenant, picture()) for _ in range(3)])
        event = (await pipe.announced([posts[-1]], since))[posts[-1]]
        reasons = [item.get("reason") for item in event.body["enrichments"]]
        assert set(reasons) <= {None, "policy"}
        return reasons.count("policy") == 1

    assert not await sampled()
    await _until(partial(_shows, pipe, tenant, 3000), "more spending in Redis")
    await _until(sampled, "a sampled post")


async def _shows(pipe: Pipeline, tenant: str, tokens: int) -> bool:
    return int(await pipe.redis.get(spent_key(tenant, _today())) or 0) >= tokens


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def test_the_command_line_says_what_to_do_when_no_worker_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISION_API_PORT", "1")
    result = CliRunner().invoke(main, ["budget", "show"])
    assert result.exit_code == 1
    assert "vision up" in result.output


@pytest.mark.parametrize("count", POSTS)
async def test_with_ocr_every_post_ends_with_an_answer(
    stack: Mapping[str, str], stack_settings: Settings, worker: Worker, tmp_path: Path, count: int
) -> None:
    """The last tests here: the worker above makes room for one whose policy allows OCR."""
    ocr = Tesseract(load_settings())
    await ocr.open()
    if not ocr.available:
        pytest.skip("Tesseract is not installed: `make tools` says how")
    worker.stop()
    reading = _worker(stack, tmp_path, ocr=True)
    try:
        await reading.ready()
        async with pipeline(stack_settings) as pipe:
            tenant = unique("ocr")
            watch = Watch(pipe, reading, tenant)
            since = await pipe.newest()
            async with watch.watching():
                posts = await _publish(pipe, tenant, count)
                events = await pipe.announced(posts, since, WHOLE_SECONDS)
                await pipe.idle()
            ended = [_status(announced[-1]) for announced in (await pipe.all_announced(posts, since)).values()]
            assert set(ended) == {"gigachat", "ocr_fallback"}
            assert len(events) == count
            assert watch.most <= LIMIT
            state = await pipe.budget(reading, tenant)
            assert (state["waiting"], state["open_grants"]) == (0, 0)
            assert state["spent"] == sum(call["total_tokens"] for call in await pipe.billed(tenant))
    finally:
        reading.end()
