"""A worker with many posts in its tables: the time of a restart, memory, and processor time of a new picture.

The rows are copies of the row of a post that was analyzed, each of a post of its own, written to the changelog of the
table while no worker runs. So the worker recovers them as it would recover those of posts that it has handled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka import TopicPartition

from vision_app.clients.kafka import kafka_consumer, kafka_producer
from vision_app.clients.postgres import postgres_connection
from vision_app.domain.posts import PostRow
from vision_app.lab.bench.laboratory import MEGABYTES, MS_A_POST, SECONDS, Laboratory
from vision_app.lab.bench.measure import OURS
from vision_app.lab.soak.workers import WorkerProcess
from vision_app.settings import Settings
from vision_app.stack.process import resident_bytes

NAME = "growth"
MEASURED_POSTS = 200
MEASURED_PART = 10  # of small tables, so that the measured posts do not fill them
WRITTEN_AT_ONCE = 5000
READ_SECONDS = 60.0


@dataclass(frozen=True)
class _Model:
    """The row that is copied: its key and its JSON, both with the id of its post."""

    post_id: bytes
    key: bytes
    row: bytes

    def copy(self, number: int) -> tuple[bytes, bytes]:
        """Key and row of another post."""
        other = b"%s-copy-%07d" % (self.post_id, number)
        return self.key.replace(self.post_id, other), self.row.replace(self.post_id, other)


async def run(laboratory: Laboratory, sizes: Sequence[int]) -> None:
    [worker] = await laboratory.workers(1)
    measured = laboratory.measure(1)
    await measured.new(OURS, worker)
    model, there = await _analyzed_row(laboratory), await _posts(laboratory)
    for size in sorted(sizes):
        if there > size:
            laboratory.faults.append(
                f"{NAME}: there are {there:,} posts of other scenarios, more than {size:,}; measure it alone: "
                f"vision bench all --scenario {NAME} --size {NAME}={size}"
            )
            continue
        await _measure(laboratory, worker, size, model, there)
        there = size + await _posts(laboratory) - there


async def _measure(laboratory: Laboratory, worker: WorkerProcess, size: int, model: _Model, there: int) -> None:
    at = f"at {size:,} posts"
    await worker.terminate()
    laboratory.tell(f"writing {size - there:,} rows")
    await _write(laboratory.settings, model, there, size)
    laboratory.note(NAME, f"{at}, restart", SECONDS, await _start(laboratory, worker))
    await laboratory.idle(NAME)
    laboratory.note(NAME, f"{at}, memory", MEGABYTES, resident_bytes(worker.pid or 0) / 1e6)
    measure = laboratory.measure(min(MEASURED_POSTS, max(1, size // MEASURED_PART)), f"{NAME}-{size}")
    row = await measure.new(OURS, worker)
    laboratory.expect(f"{NAME}, {size} posts", row.ended, row.posts)
    laboratory.note(NAME, f"{at}, CPU of a new picture", MS_A_POST, row.cpu_ms_a_post, laboratory.beside(row.kind)[0])


def _changelog(settings: Settings) -> str:
    return f"{settings.kafka_app_id}-posts-changelog"


async def _analyzed_row(laboratory: Laboratory) -> _Model:
    """The row of a post that was analyzed. Raises TimeoutError if the changelog has none."""
    settings = laboratory.settings
    async with asyncio.timeout(READ_SECONDS), kafka_consumer(settings) as consumer:
        topic = _changelog(settings)
        partitions = [TopicPartition(topic, number) for number in range(settings.kafka_topic_partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        async for record in consumer:
            row = PostRow.model_validate_json(record.value) if record.value else None
            if row is not None and _is_analyzed(row):
                return _Model(row.event.post_id.encode(), record.key, record.value)
    raise AssertionError("unreachable: the consumer reads until the timeout")


def _is_analyzed(row: PostRow) -> bool:
    ends = [medium.outcome for medium in row.media.values()]
    return row.completed_ms is not None and all(end is not None and end.kind == "analyzed" for end in ends)


async def _write(settings: Settings, model: _Model, first: int, end: int) -> None:
    """Write the rows of so many other posts."""
    async with kafka_producer(settings, linger_ms=20) as producer:
        for start in range(first, end, WRITTEN_AT_ONCE):
            numbers = range(start, min(end, start + WRITTEN_AT_ONCE))
            rows = [model.copy(number) for number in numbers]
            written = [await producer.send(_changelog(settings), row, key) for key, row in rows]
            await asyncio.gather(*written)


async def _posts(laboratory: Laboratory) -> int:
    """The posts that the worker has handled. Its table has them for a day."""
    connection = await postgres_connection(laboratory.settings, application="vision-bench")
    try:
        return int(await connection.fetchval("SELECT count(*) FROM post_enrichment WHERE kind = 'vision'"))
    finally:
        await connection.close()


async def _start(laboratory: Laboratory, worker: WorkerProcess) -> float:
    """Seconds from the start of the process until it is ready, its tables recovered."""
    laboratory.tell("starting the worker")
    started = time.monotonic()
    await worker.start()
    await worker.ready()
    return time.monotonic() - started
