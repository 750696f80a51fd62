"""Corners of the money on the real stack: limits below a picture, a lost ledger, invented grants, wrong types."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from click.testing import CliRunner

from tests.integration.pipeline import Pipeline, Worker, picture, unique
from vision_app.audit.account import take_account
from vision_app.cli import main
from vision_app.messages import Grant, MediaTask, key_of
from vision_app.providers.pictures import estimate_tokens
from vision_app.settings import Settings, load_settings
from vision_app.topics import ANALYSIS

ONE = estimate_tokens(1, "image/png", load_settings())
"""The reservation of one picture: a limit of so much lets one be asked about, and no second."""

WORKER = {"VISION_OCR_FALLBACK_ENABLED": "false"}

Vision = Callable[..., Awaitable[tuple[int, Any]]]


@pytest.fixture
def vision(worker: Worker, stack: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Vision:
    """The command line: exit code and JSON."""
    for name, value in stack.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("VISION_API_PORT", worker.url.rpartition(":")[2])

    async def run(*arguments: str) -> tuple[int, Any]:
        result = await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "--json"])
        assert result.exit_code in (0, 3), result.output
        return result.exit_code, orjson.loads(result.stdout)

    return run


async def until(look: Callable[[], Awaitable[Any]], what: str, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := await look()):
        assert time.monotonic() < deadline, f"never came: {what}"
        await asyncio.sleep(0.2)
    return found


async def publish(pipe: Pipeline, tenant: str, count: int, mime_type: str = "image/png") -> list[str]:
    posts = [f"{tenant}-{number}" for number in range(count)]
    for post in posts:
        medium = (await pipe.upload(tenant, picture())).model_copy(update={"mime_type": mime_type})
        await pipe.publish(tenant, post, [medium])
    return posts


async def limit(worker: Worker, tenant: str, tokens: int) -> None:
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:
        assert (await client.put(f"/api/v1/budget/{tenant}", json={"limit": tokens})).status_code == 202


async def parked(worker: Worker, tenant: str) -> set[str]:
    async with httpx.AsyncClient(base_url=worker.url, trust_env=False) as client:
        return {task["post_id"] for task in (await client.get(f"/api/v1/budget/{tenant}/parked")).json()["tasks"]}


async def statuses(pipe: Pipeline, posts: list[str], since: str) -> dict[str, str]:
    """How each post was announced last."""
    found = await pipe.all_announced(posts, since)
    items = {post: events[-1].body["enrichments"][0] for post, events in found.items() if events}
    return {post: str(item.get("provider") or item["status"]) for post, item in items.items()}


async def all_are(pipe: Pipeline, posts: list[str], since: str, status: str) -> bool:
    return await statuses(pipe, posts, since) == dict.fromkeys(posts, status)


async def test_a_picture_declared_as_text_costs_no_more_than_was_reserved(pipe: Pipeline, worker: Worker) -> None:
    tenant = unique("text")
    since = await pipe.newest()
    posts = await publish(pipe, tenant, 1, "text/plain")
    await pipe.announced(posts, since)
    account = await take_account(pipe.settings, tenants=[tenant])
    assert account.discrepancies == []
    for call in await pipe.billed(tenant):
        assert call["total_tokens"] <= ONE


async def test_a_limit_of_nothing_keeps_what_waits_and_gives_it_back(
    pipe: Pipeline, worker: Worker, vision: Vision
) -> None:
    tenant = unique("zero")
    await vision("pause", tenant)
    since = await pipe.newest()
    posts = await publish(pipe, tenant, 6)

    async def all_wait() -> bool:
        return await parked(worker, tenant) == set(posts)

    await until(all_wait, "six in the queue")
    await vision("budget", "set", "0", tenant)
    await vision("resume", tenant)
    await until(lambda: all_are(pipe, posts, since, "deferred"), "all are told that they are deferred")
    [event, *_] = (await pipe.all_announced(posts[:1], since))[posts[0]]
    assert event.body["enrichments"][0]["details"]["reset_at"]
    published = await pipe.redis.xlen(pipe.settings.input_streams[0])
    await vision("budget", "set", "default", tenant)
    await until(lambda: all_are(pipe, posts, since, "gigachat"), "an analysis of every post")
    assert await pipe.redis.xlen(pipe.settings.input_streams[0]) == published
    assert len(await pipe.billed(tenant)) == len(posts)


async def test_an_invented_grant_spends_nothing_and_its_task_asks_the_ledger(pipe: Pipeline, worker: Worker) -> None:
    """The tenant has no money: only the invented grant would let the picture be asked about."""
    tenant = unique("invented")
    await limit(worker, tenant, 0)
    medium = await pipe.upload(tenant, picture())
    since = await pipe.newest()
    await pipe.publish(tenant, f"{tenant}-0", [medium])
    await until(lambda: all_are(pipe, [f"{tenant}-0"], since, "deferred"), "no money")
    task = MediaTask(tenant_id=tenant, post_id=f"{tenant}-0", trace_id=f"t-{tenant}-0", medium=medium, dispatch=1)
    grant = Grant(id=unique("invented"), provider="gigachat", estimate=5000, task=task)
    producer = AIOKafkaProducer(bootstrap_servers=pipe.settings.kafka_bootstrap_servers)
    await producer.start()
    try:
        await producer.send_and_wait(ANALYSIS.name, grant.encode(), key=key_of(tenant, medium.sha256))
    finally:
        await producer.stop()

    async def asked() -> bool:
        return bool((await pipe.budget(worker, tenant))["waiting"] == 2)

    await until(asked, "its task waits like any other")
    assert await pipe.billed(tenant) == []
    await limit(worker, tenant, 100_000)
    await until(lambda: all_are(pipe, [f"{tenant}-0"], since, "gigachat"), "an analysis")
    await pipe.idle()
    assert len(await pipe.billed(tenant)) == 1, "the second finds the answer of the first"


async def lose_the_ledger(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([f"{settings.kafka_app_id}-{table}-changelog" for table in ("budget", "parked")])
    finally:
        await admin.close()


async def test_what_waited_in_a_lost_ledger_is_found_and_comes_back(
    pipe: Pipeline, worker: Worker, vision: Vision
) -> None:
    """One tenant's posts come back by a plain replay, the other's by themselves."""
    replayed, alone = unique("replayed"), unique("alone")
    since, waiting = await pipe.newest(), {}
    for tenant in (replayed, alone):
        await limit(worker, tenant, ONE)
        posts = await publish(pipe, tenant, 3)
        await pipe.announced(posts, since)
        waiting[tenant] = [post for post, how in (await statuses(pipe, posts, since)).items() if how == "deferred"]
        assert len(waiting[tenant]) == 2
    await pipe.idle()
    worker.stop()
    await lose_the_ledger(pipe.settings)
    worker.start()
    await worker.ready()

    state = await pipe.budget(worker, replayed)
    assert (state["known"], state["note"].startswith("not loaded yet")) == (False, True)
    code, stuck = await vision("posts", "--stuck", "--older-than", "0s", "--tenant", replayed)
    assert code == 3
    assert {one["post_id"] for one in stuck} == set(waiting[replayed])
    assert all("ledger does not know of it" in one["waits_for"] for one in stuck)
    code, [way] = await vision("trace", waiting[replayed][0])
    assert (code, "ledger does not know of it" in way["stopped"]) == (3, True)
    account = await take_account(pipe.settings, tenants=[replayed])
    assert (account.deferred, account.forgotten, account.clean) == (2, 2, False)

    await vision("replay", "--post", waiting[replayed][0])
    for tenant, posts in waiting.items():

        async def back(tenant: str = tenant, posts: list[str] = posts) -> bool:
            return await parked(worker, tenant) == set(posts)

        await until(back, f"{tenant}: its posts in the new ledger's queue", 150)
        state = await pipe.budget(worker, tenant)
        assert (state["limit"], state["note"], state["spent"] > 0) == (ONE, None, True), "as Postgres knows it"
        await limit(worker, tenant, 100_000)
        await until(partial(all_are, pipe, posts, since, "gigachat"), "an analysis of every post")
        assert len(await pipe.billed(tenant)) == 3, "nothing was asked twice"
    await pipe.idle()
    assert (await vision("posts", "--stuck", "--older-than", "0s", "--tenant", alone))[1] == []
    account = await take_account(pipe.settings, tenants=[replayed, alone])
    gone = [sentence for sentence in account.discrepancies if "is charged 0 tokens" not in sentence]
    assert gone == [], "but for what the deleted changelog would show"
    assert (account.forgotten, account.extra_calls, account.overspend) == (0, 0, 0)
