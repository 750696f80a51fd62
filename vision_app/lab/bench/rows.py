"""Copies of a post's row, written to the changelog of the posts' table while no worker runs.

A worker recovers them as it would recover the rows of posts that it has handled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiokafka import TopicPartition

from vision_app.clients.kafka import kafka_consumer, kafka_producer
from vision_app.domain.posts import PostRow
from vision_app.lab.bench.laboratory import Laboratory
from vision_app.lab.soak.workers import WorkerProcess
from vision_app.settings import Settings

WRITTEN_AT_ONCE = 5000
READ_SECONDS = 60.0


@dataclass(frozen=True)
class Model:
    """The row that is copied: its key and its JSON, both with the id of its post."""

    post_id: bytes
    key: bytes
    row: bytes

    def copy(self, number: int) -> tuple[bytes, bytes]:
        """Key and row of another post."""
        other = b"%s-copy-%07d" % (self.post_id, number)
        return self.key.replace(self.post_id, other), self.row.replace(self.post_id, other)


def is_analyzed(row: PostRow) -> bool:
    """Whether the post has ended and each of its pictures was analyzed."""
    ends = [medium.outcome for medium in row.media.values()]
    return row.completed_ms is not None and all(end is not None and end.kind == "analyzed" for end in ends)


def is_open(row: PostRow) -> bool:
    """Whether the post waits for all its pictures."""
    return row.completed_ms is None and all(medium.outcome is None for medium in row.media.values())


async def model_row(laboratory: Laboratory, wanted: Callable[[PostRow], bool]) -> Model:
    """The first row of that kind in the changelog. Raises TimeoutError if it has none."""
    settings = laboratory.settings
    async with asyncio.timeout(READ_SECONDS), kafka_consumer(settings) as consumer:
        topic = _changelog(settings)
        partitions = [TopicPartition(topic, number) for number in range(settings.kafka_topic_partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        async for record in consumer:
            row = PostRow.model_validate_json(record.value) if record.value else None
            if row is not None and wanted(row):
                return Model(row.event.post_id.encode(), record.key, record.value)
    raise AssertionError("unreachable: the consumer reads until the timeout")


async def write_rows(settings: Settings, model: Model, first: int, end: int) -> None:
    """Write the rows of so many other posts."""
    async with kafka_producer(settings, linger_ms=20) as producer:
        for start in range(first, end, WRITTEN_AT_ONCE):
            numbers = range(start, min(end, start + WRITTEN_AT_ONCE))
            rows = [model.copy(number) for number in numbers]
            written = [await producer.send(_changelog(settings), row, key) for key, row in rows]
            await asyncio.gather(*written)


async def restart(laboratory: Laboratory, worker: WorkerProcess) -> float:
    """Seconds from the start of the process until it is ready, its tables recovered."""
    laboratory.tell("starting the worker")
    started = time.monotonic()
    await worker.start()
    await worker.ready()
    return time.monotonic() - started


def _changelog(settings: Settings) -> str:
    return f"{settings.kafka_app_id}-posts-changelog"
