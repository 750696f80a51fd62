"""The sinks alone: results written to each store in batches of the usual size, beside one by one.

The results are copies of one that the worker has made, each with a post and a picture of its own.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

from vision_app.lab.bench.laboratory import PER_SECOND, Laboratory
from vision_app.lab.bench.measure import OURS
from vision_app.messages import PostResult, decode
from vision_app.operations.kafka_log import kafka_log
from vision_app.stack.errors import StackError
from vision_app.stores.base import Sink
from vision_app.stores.neo4j import GraphSink
from vision_app.stores.post_documents import PostDocumentSink
from vision_app.stores.postgres import PostgresSink
from vision_app.streams.batches import BATCH_SIZE
from vision_app.topics import SINK_S3

NAME = "sinks"
ONE_BY_ONE_PART = 5
NODES_A_POST = 2
"""The post and its picture; the labels are shared."""


async def run(laboratory: Laboratory, sizes: Sequence[int]) -> None:
    example = await _example(laboratory)
    await laboratory.workers(0)
    settings = laboratory.settings
    sinks: tuple[tuple[Sink[Any], str, int], ...] = (
        (PostgresSink(settings), "Postgres, rows", 1),
        (GraphSink(settings), "Neo4j, nodes", NODES_A_POST),
        (PostDocumentSink(settings, laboratory.s3), "S3, documents", 1),
    )
    for sink, name, each in sinks:
        laboratory.tell(f"{name}: {sizes[0]} in batches, then one by one")
        await sink.open()
        try:
            batches = await _rate(laboratory, sink, _copies(example, f"{sink.name}-many", sizes[0]), BATCH_SIZE)
            few = max(1, sizes[0] // ONE_BY_ONE_PART)
            single = await _rate(laboratory, sink, _copies(example, f"{sink.name}-single", few), 1)
        finally:
            await sink.close()
        laboratory.note(NAME, f"{name} in batches (plain: one by one)", PER_SECOND, batches * each, single * each)


async def _example(laboratory: Laboratory) -> PostResult:
    """A result that the worker has made. Raises StackError."""
    [worker] = await laboratory.workers(1)
    await laboratory.measure(1).new(OURS, worker)
    async with kafka_log(laboratory.settings) as kafka:
        stretches = await kafka.between(kafka.partitions([SINK_S3.name]), None, None)
        async for record in kafka.read(stretches):
            result: PostResult = decode(PostResult, record.value)
            if result.status == "ok" and len(result.media) == 1:
                return result
    raise StackError("the worker has made no result to copy; see its log in the run's folder")


def _copies(example: PostResult, name: str, count: int) -> list[PostResult]:
    """Copies with ids of their own. The texts replaced occur nowhere else."""
    text, post, sha256 = example.encode(), example.event.post_id.encode(), example.media[0].medium.sha256.encode()
    copies = []
    for number in range(count):
        post_id = f"{example.event.post_id}-{name}-{time.time_ns()}-{number}".encode()
        other = hashlib.sha256(post_id).hexdigest().encode()
        copies.append(decode(PostResult, text.replace(post, post_id).replace(sha256, other)))
    return copies


async def _rate(laboratory: Laboratory, sink: Sink[Any], results: Sequence[PostResult], size: int) -> float:
    """Results a second."""
    started, written = time.monotonic(), 0
    for first in range(0, len(results), size):
        written += len(await sink.write(results[first : first + size]))
    seconds = time.monotonic() - started
    laboratory.expect(f"{NAME}, {sink.name}", written, len(results))
    return len(results) / seconds
