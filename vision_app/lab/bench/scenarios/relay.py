"""The way in alone: entries of a Redis stream into Kafka, our bridge beside a plain loop, one after the other.

Both have a stream and a topic of the benchmark, so that no worker takes the entries for posts.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import orjson
from aiokafka.admin import NewTopic

from vision_app.clients.kafka import kafka_admin
from vision_app.events import UPLOADED_EVENT
from vision_app.lab.bench import plain_relay
from vision_app.lab.bench.figures import Unit
from vision_app.lab.bench.laboratory import PER_SECOND, Laboratory
from vision_app.lab.bench.measure import PATIENCE_SECONDS, PUBLISHED_TOGETHER, TENANTS, Runner, cpu_seconds
from vision_app.lab.bench.plain import child, read_from_now
from vision_app.lab.bench.profiler import Profiler
from vision_app.lab.soak.workers import WorkerLost
from vision_app.operations import neighbours
from vision_app.settings import Settings

NAME = "relay"
STREAM, TOPIC = "stream:bench:relay", "bench.relayed"
OURS, PLAIN = "ours", "plain"
MODULES = {OURS: "vision_app.lab.bench.relay_alone", PLAIN: "vision_app.lab.bench.plain_relay"}
WARM_UP_PART = 10
POLL_SECONDS = 0.02
MS_AN_ENTRY = Unit("ms an entry", "less", "time")


async def run(laboratory: Laboratory, sizes: Sequence[int]) -> None:
    entries = sizes[0]
    await laboratory.workers(0)
    settings = laboratory.settings.model_copy(update={"vision_input_streams": STREAM})
    await _make_topic(settings)
    plain_rate, plain_cpu_ms = await _measured(laboratory, settings, PLAIN, plain_relay.GROUP, entries)
    rate, cpu_ms = await _measured(laboratory, settings, OURS, settings.vision_consumer_group, entries)
    laboratory.note(NAME, "entries, rate", PER_SECOND, rate, plain_rate)
    laboratory.note(NAME, "entries, CPU", MS_AN_ENTRY, cpu_ms, plain_cpu_ms)


async def _make_topic(settings: Settings) -> None:
    async with kafka_admin(settings) as admin:
        if TOPIC not in await admin.list_topics():
            await admin.create_topics([NewTopic(TOPIC, settings.kafka_topic_partitions, 1)])


async def _measured(
    laboratory: Laboratory, settings: Settings, name: str, group: str, entries: int
) -> tuple[float, float]:
    """Entries a second, and the processor time of one."""
    await read_from_now(laboratory.redis, settings, group)
    async with _relaying(laboratory, name) as process:
        await _relay(laboratory, name, group, max(1, entries // WARM_UP_PART))
        laboratory.tell(f"{name}: relaying {entries} entries")
        profiler = laboratory.wish.profiler.of(NAME) if name == OURS else Profiler()
        async with profiler.profiled("entries", process.pid, entries):
            busy = cpu_seconds(process)
            seconds = await _relay(laboratory, name, group, entries)
            return entries / seconds, (cpu_seconds(process) - busy) * 1000 / entries


def _relaying(laboratory: Laboratory, name: str) -> AbstractAsyncContextManager[Runner]:
    command = (sys.executable, "-u", "-m", MODULES[name], TOPIC)
    environment = {**laboratory.variables, "VISION_INPUT_STREAMS": STREAM, "VISION_WORKER_ID": "bench-relay"}
    return child(command, environment, laboratory.home / "logs" / f"relay-{name}.log", f"the relay ({name})")


async def _relay(laboratory: Laboratory, name: str, group: str, entries: int) -> float:
    """Publish entries at once and wait until all are acknowledged. Returns the seconds. Raises WorkerLost."""
    events = [_event(name, number) for number in range(entries)]
    started = time.monotonic()
    for first in range(0, entries, PUBLISHED_TOGETHER):
        async with laboratory.redis.pipeline(transaction=False) as pipeline:
            for data in events[first : first + PUBLISHED_TOGETHER]:
                pipeline.xadd(STREAM, {"event": UPLOADED_EVENT, "data": data})
            await pipeline.execute()
    while not await _is_acknowledged(laboratory, group):
        if time.monotonic() - started > PATIENCE_SECONDS:
            raise WorkerLost(f"the relay ({name}) is not done after {PATIENCE_SECONDS:g} s; see {laboratory.home}/logs")
        await asyncio.sleep(POLL_SECONDS)
    return time.monotonic() - started


def _event(name: str, number: int) -> bytes:
    tenant, post = f"relay-{number % TENANTS}", f"{name}-{time.time_ns()}-{number}"
    event = neighbours.uploaded_event(tenant, post, [neighbours.never_uploaded(tenant, post)], f"t-{post}")
    return orjson.dumps(event)


async def _is_acknowledged(laboratory: Laboratory, group: str) -> bool:
    last = (await laboratory.redis.xinfo_stream(STREAM))["last-generated-id"]
    groups = {one["name"]: one for one in await laboratory.redis.xinfo_groups(STREAM)}
    found = groups[group.encode()]
    return bool(found["last-delivered-id"] == last and not found["pending"])
