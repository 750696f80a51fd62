"""Recorded inputs sent again, as `vision replay` sends them: posts that have all their answers, so nothing is to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import orjson

from vision_app.events import read_json
from vision_app.lab.bench.laboratory import MS_A_POST, PER_SECOND, SECONDS, Laboratory
from vision_app.lab.bench.measure import OURS, Event, cpu_seconds
from vision_app.messages import headers_of
from vision_app.operations.inputs import Input, send_again
from vision_app.operations.kafka_log import KafkaSender, kafka_sender
from vision_app.telemetry.tracing import root_of

NAME = "replay"
DIFFERENT_POSTS = 200
"""At most; further inputs are copies with a trace of their own."""
SENT_AT_ONCE = 100


async def run(laboratory: Laboratory, sizes: Sequence[int]) -> None:
    [worker] = await laboratory.workers(1)
    measure, inputs = laboratory.measure(min(sizes[0], DIFFERENT_POSTS)), sizes[0]
    first = await measure.new(OURS, worker)
    laboratory.expect(f"{NAME}, the posts", first.ended, first.posts)
    copies = [_copy(measure.last[number % len(measure.last)], number) for number in range(inputs)]
    laboratory.tell(f"{inputs} inputs of {len(measure.last)} posts again")
    async with laboratory.wish.profiler.of(NAME).profiled("duplicates", worker.pid, inputs):
        busy, started = cpu_seconds(worker), time.monotonic()
        async with kafka_sender(laboratory.settings) as sender:
            await _send_all(sender, copies)
        await laboratory.idle(NAME, inputs)
        seconds, cpu_ms = time.monotonic() - started, (cpu_seconds(worker) - busy) * 1000
    laboratory.note(NAME, "duplicate inputs", SECONDS, seconds)
    laboratory.note(NAME, "duplicate inputs, rate", PER_SECOND, inputs / seconds)
    laboratory.note(NAME, "duplicate inputs, CPU", MS_A_POST, cpu_ms / inputs)


def _copy(event: Event, number: int) -> Input:
    uploaded = read_json(
        orjson.dumps({**event, "trace_id": f"replay-{number}"}), default_tenant=str(event["tenant_id"])
    )
    headers = headers_of(uploaded.trace_id, uploaded.event_type, root_of(uploaded))
    return Input(f"bench-0-{number}", uploaded, uploaded.key, uploaded.encode(), headers)


async def _send_all(sender: KafkaSender, inputs: Sequence[Input]) -> None:
    slots = asyncio.Semaphore(SENT_AT_ONCE)

    async def send(one: Input) -> None:
        async with slots:
            await send_again(sender, one, force=False)

    async with asyncio.TaskGroup() as group:
        for one in inputs:
            group.create_task(send(one))
