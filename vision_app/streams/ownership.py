"""Tells whether an event still belongs to this worker, and ends a wait when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from aiokafka.partitioner import murmur2
from faust.types import TP

from vision_app.topics import Topic

from .faust_seams import Event, Worker

Result = TypeVar("Result")


class LeftUnacked(Exception):
    """The event is left un-acknowledged on purpose: the worker stops or the partition moved. It is redelivered."""


def is_ours(app: Worker, event: Event) -> bool:
    """False once the partition may belong to another worker: then nothing may be written or acknowledged for it."""
    return not app.rebalancing and of_this_generation(app, event)


async def becomes_ours(app: Worker, event: Event) -> bool:
    """Whether to handle an event that just arrived. Call it before anything is done for the event.

    Faust delivers messages a moment before it reports the end of a rebalance. So this waits for the end. To skip an
    event of this generation would lose it: the next event's commit would cover it, and it would not be redelivered.
    """
    while not app.should_stop and of_this_generation(app, event):
        if not app.rebalancing:
            return True
        await asyncio.sleep(app.times.poll)
    return False


def of_this_generation(app: Worker, event: Event) -> bool:
    """Whether an acknowledgement of the event still counts."""
    return bool(event.message.generation_id == app.consumer_generation_id)


def owns(app: Worker, topic: Topic, key: bytes) -> bool:
    """Whether this worker is assigned the key's partition; timers ask, since tables keep rows of lost partitions."""
    return not app.rebalancing and TP(topic.name, partition_of(app, key)) in app.consumer.assignment()


def partition_of(app: Worker, key: bytes) -> int:
    """The partition of a key, as Kafka's own default partitioner chooses it."""
    return int((murmur2(key) & 0x7FFFFFFF) % app.conf.topic_partitions)


async def while_ours(app: Worker, event: Event, awaitable: Awaitable[Result]) -> Result:
    """Await something slow. Raises LeftUnacked as soon as the worker stops or the event is no longer ours."""
    task = asyncio.ensure_future(awaitable)
    try:
        while not task.done():
            if app.should_stop or not is_ours(app, event):
                raise LeftUnacked
            await asyncio.wait({task}, timeout=app.times.poll)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    return task.result()


async def sleep_while_ours(app: Worker, event: Event, seconds: float) -> None:
    """Sleep. Raises LeftUnacked as soon as the event is no longer ours or the worker stops."""
    await while_ours(app, event, asyncio.sleep(seconds))
