"""The accountant with ten thousand posts in every store: less than a minute of CPU, memory that stays within reason.

No worker made them: what it would have left is put there directly, on services of this test's own. There is no bill,
so that the slowest way is taken: every record of a call is read from S3.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from redis.asyncio import Redis

from tests.samples import analyzed, post
from vision_app.audit import take_account
from vision_app.audit.kafka_reader import budget_changelog
from vision_app.domain.budget import BudgetRow
from vision_app.domain.calls import CallRecord
from vision_app.domain.moment import Applied
from vision_app.events import announcement
from vision_app.kafka_topics import create_topics
from vision_app.messages import (
    Charged,
    Grant,
    MediaTask,
    Message,
    Opened,
    PolicyVerdict,
    PostResult,
    Settle,
    headers_of,
    key_of,
)
from vision_app.operations.neighbours import uploaded_event
from vision_app.settings import Settings, load_settings
from vision_app.stack.client import running_stack
from vision_app.stores.keys import call_key, post_key
from vision_app.stores.neo4j import GraphSink
from vision_app.stores.postgres import PostgresSink
from vision_app.stores.redis_announcer import Announcement, RedisAnnouncer
from vision_app.stores.s3 import S3Store
from vision_app.topics import ALL, DLQ, UPLOADED, routes

pytestmark = [pytest.mark.load, pytest.mark.timeout(1800)]

POSTS, TENANTS, TOKENS = 10_000, 10, 900
CPU_SECONDS = 60
MORE_MEMORY_KB = 500_000
BATCH = 500


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with running_stack(tmp_path / "stack") as variables:
        yield load_settings(
            **{**{name.lower(): value for name, value in variables.items()}, "gigachat_simulated": False}
        )


async def test_ten_thousand_posts_are_accounted_for_within_a_minute(settings: Settings) -> None:
    s3 = S3Store(settings)
    await s3.open()
    await s3.ensure_bucket()
    results = [
        post(
            [analyzed(tokens=TOKENS)], tenant=f"tenant-{n % TENANTS}", post_id=f"post-{n}", emission=(1_000_000 + n, n)
        )
        for n in range(POSTS)
    ]
    await _stores(settings, s3, results)
    await _streams(settings, results)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, started = time.process_time(), time.monotonic()
    account = await take_account(settings)
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    more_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"\n{POSTS} posts: {seconds:.1f} s, of that {cpu:.1f} s of CPU, {more_kb // 1024} MB more")
    await s3.close()
    assert account.discrepancies == []
    assert (account.inputs, account.ended, account.analyzed, account.events) == (POSTS,) * 4
    assert (account.calls, account.tokens_ledger, account.tokens_postgres) == (POSTS, POSTS * TOKENS, POSTS * TOKENS)
    assert cpu < CPU_SECONDS
    assert more_kb < MORE_MEMORY_KB


async def _stores(settings: Settings, s3: S3Store, results: Sequence[PostResult]) -> None:
    for sink in (PostgresSink(settings), GraphSink(settings)):
        await sink.open()
        for at in range(0, len(results), BATCH):
            await sink.write(results[at : at + BATCH])
        if isinstance(sink, PostgresSink):
            await sink.write([_charge(number, result) for number, result in enumerate(results)])
        await sink.close()
    slots = asyncio.Semaphore(32)

    async def put(key: str, body: bytes) -> None:
        async with slots:
            await s3.put(key, body, "application/json")

    now = datetime.now(UTC)
    objects = {"vision/answers/Кот на о.json": b"{}"}
    for number, result in enumerate(results):
        tenant, grant = result.event.tenant_id, _grant_id(number)
        record = CallRecord(
            state="done", grant_id=grant, tokens=TOKENS, verdict="ok", answer_key="vision/t/s_v", at=now
        )
        objects[post_key(tenant, result.event.post_id)] = b"{}"
        objects[call_key(tenant, grant)] = record.model_dump_json().encode()
    await asyncio.gather(*(put(key, body) for key, body in objects.items()))


async def _streams(settings: Settings, results: Sequence[PostResult]) -> None:
    """Inputs and events on Redis, everything the worker would have sent on Kafka, all of it worked off."""
    redis = Redis.from_url(settings.redis_url.get_secret_value())
    stream, announcer = settings.input_streams[0], RedisAnnouncer(settings)
    entries: list[bytes] = []
    for at in range(0, len(results), BATCH):
        batch = results[at : at + BATCH]
        async with redis.pipeline(transaction=False) as pipe:
            for result in batch:
                pipe.xadd(stream, {"data": orjson.dumps(_event(result))})
            entries += await pipe.execute()
        await announcer.write([Announcement(*announcement(result)) for result in batch])
    await announcer.close()
    for name in settings.input_streams:
        await redis.xgroup_create(name, settings.vision_consumer_group, id="$", mkstream=True)
    await redis.aclose()
    await create_topics(settings, {budget_changelog(settings): {}})
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers, linger_ms=20) as producer:
        sent: list[Any] = []
        for number, (result, entry) in enumerate(zip(results, entries, strict=True)):
            sent += [
                await producer.send(*record[:2], key=record[2], headers=record[3])
                for record in _records(settings, number, result, entry.decode())
            ]
        await asyncio.gather(*sent)
    await _commit(settings)


def _records(settings: Settings, number: int, result: PostResult, entry: str) -> list[tuple[str, bytes, bytes, Any]]:
    event, tenant = result.event, result.event.tenant_id
    sourced = event.model_copy(update={"source_stream": settings.input_streams[0], "source_entry_id": entry})
    task = MediaTask(tenant_id=tenant, post_id=event.post_id, trace_id="t", medium=event.media_files[0], dispatch=1)
    verdict = PolicyVerdict(analyze=True, reason="policy_passed")
    opened = Opened(event=sourced, verdicts=[verdict], input_id=f"{settings.input_streams[0]}/{entry}")
    messages: list[Message] = [
        opened,
        Grant(id=_grant_id(number), provider="gigachat", estimate=3000, task=task),
        Settle(tenant_id=tenant, grant_id=_grant_id(number), tokens=TOKENS),
    ]
    records: list[tuple[str, bytes, bytes, Any]] = [(UPLOADED.name, sourced.encode(), event.key, [])]
    for message in messages:
        [(topic, key)] = routes(message)
        kind = getattr(message, "type", "")
        records.append((topic.name, message.encode(), key, list(headers_of("t", kind).items())))
    own = number // TENANTS + 1  # of the tenant
    row = BudgetRow(
        tenant_id=tenant, born_ms=1, applied=Applied(), day="2026-11-22", loaded=True, spent=own * TOKENS,
        limit=10**9,
    )  # fmt: skip
    closed = [{"id": _grant_id(number), "charged": TOKENS, "requeued": False}]
    version = {**row.model_dump(mode="json"), "closed": closed}
    return [*records, (budget_changelog(settings), orjson.dumps(version), key_of(tenant), [])]


async def _commit(settings: Settings) -> None:
    """As the workers' group would have: everything is worked off."""
    places = [TopicPartition(t.name, p) for t in ALL if t is not DLQ for p in range(settings.kafka_topic_partitions)]
    servers = settings.kafka_bootstrap_servers
    async with AIOKafkaConsumer(
        bootstrap_servers=servers, group_id=settings.kafka_app_id, enable_auto_commit=False
    ) as group:
        group.assign(places)
        await group.commit(await group.end_offsets(places))


def _event(result: PostResult) -> dict[str, Any]:
    event = result.event
    return uploaded_event(event.tenant_id, event.post_id, event.media_files, event.trace_id)


def _charge(number: int, result: PostResult) -> Charged:
    now_ms = round(time.time() * 1000)
    ledger = BudgetRow.model_fields["ledger"].get_default()
    return Charged(
        tenant_id=result.event.tenant_id, ledger=ledger, grant_id=_grant_id(number), tokens=TOKENS, at_ms=now_ms
    )


def _grant_id(number: int) -> str:
    return f"abcdef01-1-{number}"
