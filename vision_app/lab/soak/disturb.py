"""The disturbances of a crash round besides failing services: a second worker, abandoned entries, poison, replays."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
from redis.asyncio import Redis

from vision_app import topics
from vision_app.clients.kafka import kafka_producer
from vision_app.messages import Failed, MediaOutcome
from vision_app.settings import Settings

from .workers import WorkerProcess

GHOST = "ghost"  # a consumer of the group that reads once and never acknowledges
LEFT_BY_GHOST = 4
VISION = (sys.executable, "-c", "from vision_app.cli import main; main()")


@asynccontextmanager
async def second_worker_running(other: WorkerProcess) -> AsyncIterator[None]:
    """A second worker without crash points joins, and leaves at the end: partitions move twice."""
    await other.start()
    try:
        await other.ready()
        yield
        await other.terminate()
    finally:
        await other.kill()


@asynccontextmanager
async def abandoned_entries(worker: WorkerProcess, redis: Redis, settings: Settings) -> AsyncIterator[None]:
    """Another consumer reads some entries published meanwhile and leaves them, one of them after too many deliveries.

    Then another entry, which belongs to no post, is deleted from the stream.
    """
    worker.signal(signal.SIGSTOP)
    try:
        doomed = await redis.xadd(settings.input_streams[0], {"event": "none"})
        yield
        await _read_and_leave(redis, settings)
        await redis.xdel(settings.input_streams[0], doomed)
    finally:
        worker.signal(signal.SIGCONT)


async def _read_and_leave(redis: Redis, settings: Settings) -> None:
    group = settings.vision_consumer_group
    streams: dict[Any, Any] = dict.fromkeys(settings.input_streams, ">")
    for stream, entries in await redis.xreadgroup(group, GHOST, streams, count=LEFT_BY_GHOST) or []:
        for _ in range(settings.vision_max_deliveries):
            await redis.xclaim(stream, group, GHOST, 0, [entries[-1][0]])


async def replay_letters(environment: Mapping[str, str], tenant: str, error: str) -> None:
    """`vision dlq replay` for this tenant's letters with this error. It refuses operators' commands, correctly."""
    command = [*VISION, "dlq", "replay", "--again", "--tenant", tenant, "--error", error]
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment})
    await process.wait()


async def poison(settings: Settings, tenant: str) -> None:
    """Send one unreadable record to each of the worker's own topics, and two that are read and refused."""
    nobodys = MediaOutcome(
        tenant_id=tenant,
        post_id="never-opened",
        trace_id=f"t-{tenant}",
        sha256="0" * 64,
        dispatch=0,
        outcome=Failed(reason="poison"),
    )
    async with kafka_producer(settings) as producer:
        for topic in topics.ALL:
            if topic is not topics.DLQ:
                await producer.send_and_wait(topic.name, orjson.dumps([tenant, topic.name]), key=b"poison")
        [(place, key)] = topics.routes(nobodys)
        await producer.send_and_wait(place.name, nobodys.encode(), key=key)
        event = orjson.dumps({"event_type": topics.ANALYZED.name})
        await producer.send_and_wait(topics.ANALYZED.name, event, key=b"poison")
