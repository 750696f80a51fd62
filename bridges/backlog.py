"""Measures entries of the input streams that are not yet in Kafka: how many are unread, how many pending, how old.

Measured apart from the relaying, because the numbers matter most while the relaying is stopped. An entry's age counts
from the time in its id. Its idle time does not show the age: a worker that holds the entry renews it.
"""

from __future__ import annotations

import time
from typing import Any

from redis.asyncio import Redis

from vision_app.settings import Settings
from vision_app.telemetry import metrics

MEASURED = 1000
"""Most entries counted per stream. A longer backlog shows as this many."""


async def measure(redis: Redis, settings: Settings) -> None:
    """Set the gauges. Raises redis-py's errors, also while the group does not exist yet."""
    group = settings.vision_consumer_group
    pending, ages, now_ms = 0, [0.0], time.time() * 1000
    for stream in settings.input_streams:
        metrics.STREAM_LAG.labels(stream=stream, group=group).set(await _unread(redis, stream, group))
        pending += (await redis.xpending(stream, group))["pending"]
        oldest = await redis.xpending_range(stream, group, min="-", max="+", count=MEASURED)
        ages += [max(0.0, now_ms - int(item["message_id"].partition(b"-")[0])) / 1000 for item in oldest]
    metrics.PEL_SIZE.labels(consumer_group=group).set(pending)
    ages.sort()
    for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0)):
        age = ages[round(share * (len(ages) - 1))]
        metrics.PENDING_AGE.labels(percentile=name, consumer_group=group).set(age)


async def _unread(redis: Redis, stream: str, group: str) -> int:
    """Entries not delivered to the group, as Redis 7 counts them; with an older Redis counted here."""
    infos: list[dict[str, Any]] = await redis.xinfo_groups(stream)
    info = next((info for info in infos if info["name"] == group.encode()), None)
    if info is None:
        return int(await redis.xlen(stream))
    if (lag := info.get("lag")) is not None:
        return int(lag)
    return len(await redis.xrange(stream, min=f"({info['last-delivered-id'].decode()}", count=MEASURED))
