"""The work that is not finished yet: entries of the input streams, records of the Kafka topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from redis.asyncio import Redis

from vision_app import topics
from vision_app.clients.kafka import kafka_admin, kafka_consumer
from vision_app.settings import Settings
from vision_app.texts import say

from .kafka_log import ask_coordinator, in_time
from .neighbours import START_OF_STREAM, as_text

IDLE_POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Backlog:
    """Unfinished entries by Redis stream and records by Kafka topic. Empty when all input is worked off."""

    redis_unread: Mapping[str, int] = field(default_factory=dict)
    redis_pending: Mapping[str, int] = field(default_factory=dict)
    kafka: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.redis_unread or self.redis_pending or self.kafka)

    def __str__(self) -> str:
        parts = [
            say("{stream}: {count} unread", stream=stream, count=count) for stream, count in self.redis_unread.items()
        ]
        parts += [
            say("{stream}: {count} pending", stream=stream, count=count) for stream, count in self.redis_pending.items()
        ]
        parts += [say("{topic}: {count} waiting", topic=topic, count=count) for topic, count in self.kafka.items()]
        return ", ".join(parts) or "nothing"


async def await_idle(redis: Redis, settings: Settings, deadline: float) -> Backlog:
    """Wait until every input is worked off, or until `deadline` (of `time.monotonic()`).

    Returns what is left. If nothing is left, no further output can come: a record is committed only after all its
    effects were acknowledged, so when every topic is committed to its end, no message is on its way. So a test can see
    that something did *not* happen without a fixed wait.
    """
    async with in_time(settings, _clients(settings)) as (admin, consumer):
        while True:
            unread, pending = await _redis_backlog(redis, settings)  # first, since it fills the topics
            backlog = Backlog(unread, pending, await _kafka_backlog(admin, consumer, settings))
            if not backlog or time.monotonic() >= deadline:
                return backlog
            await asyncio.sleep(IDLE_POLL_SECONDS)


@asynccontextmanager
async def _clients(settings: Settings) -> AsyncIterator[tuple[Any, Any]]:
    async with kafka_admin(settings) as admin, kafka_consumer(settings) as consumer:
        yield admin, consumer


async def _redis_backlog(redis: Redis, settings: Settings) -> tuple[dict[str, int], dict[str, int]]:
    unread: dict[str, int] = {}
    pending: dict[str, int] = {}
    for stream in settings.input_streams:
        if not await redis.exists(stream):
            continue
        groups = {as_text(group["name"]): group for group in await redis.xinfo_groups(stream)}
        group = groups.get(settings.vision_consumer_group, {"last-delivered-id": START_OF_STREAM, "pending": 0})
        unread[stream] = len(await redis.xrange(stream, min=f"({as_text(group['last-delivered-id'])}"))
        pending[stream] = int(group["pending"])
    return _not_zero(unread), _not_zero(pending)


async def _kafka_backlog(admin: Any, consumer: Any, settings: Settings) -> dict[str, int]:
    """Records by topic that the worker has not acknowledged. Commits are read before ends: see `await_idle`."""
    committed = await ask_coordinator(lambda: admin.list_consumer_group_offsets(settings.kafka_app_id))
    partitions = [
        TopicPartition(topic, partition)
        for topic in worked_off(settings)
        for partition in range(settings.kafka_topic_partitions)
    ]
    begins, ends = await asyncio.gather(consumer.beginning_offsets(partitions), consumer.end_offsets(partitions))
    done = {place: committed[place].offset if place in committed else 0 for place in partitions}
    return backlog_by_topic((place.topic, begins[place], ends[place], done[place]) for place in partitions)


def worked_off(settings: Settings) -> list[str]:
    """The topics that the worker reads to their end: all but the dead letters, and the graph's only if it is on."""
    unread = {topics.DLQ} if settings.feature_neo4j_enabled else {topics.DLQ, topics.SINK_NEO4J}
    return [topic.name for topic in topics.ALL if topic not in unread]


def backlog_by_topic(partitions: Iterable[tuple[str, int, int, int]]) -> dict[str, int]:
    """Records left by topic, from (topic, first offset, end offset, committed offset) of each partition."""
    left: dict[str, int] = {}
    for topic, begin, end, committed in partitions:
        left[topic] = left.get(topic, 0) + max(0, end - max(begin, committed))
    return _not_zero(left)


def _not_zero(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
