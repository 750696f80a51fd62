"""Waits end when the worker stops or the partition moves, and leave nothing running behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from aiokafka.partitioner import DefaultPartitioner
from faust.types import TP

from tests.fakes import FakeApp, event, settled
from vision_app.streams.ownership import (
    LeftUnacked,
    becomes_ours,
    is_ours,
    of_this_generation,
    owns,
    sleep_while_ours,
    while_ours,
)
from vision_app.topics import BUDGET, MEDIA


def stop(app: FakeApp) -> None:
    app.should_stop = True


def rebalance(app: FakeApp) -> None:
    app.rebalancing = True


def move(app: FakeApp) -> None:
    app.consumer_generation_id += 1


def test_an_event_is_ours_in_its_own_generation_outside_of_rebalances() -> None:
    app = FakeApp()
    assert is_ours(app, event(0))
    rebalance(app)
    assert not is_ours(app, event(0))
    assert of_this_generation(app, event(0))
    move(app)
    app.rebalancing = False
    assert not is_ours(app, event(0))
    assert not of_this_generation(app, event(0))
    assert is_ours(app, event(0, generation=2))


async def test_a_result_comes_through_and_so_does_an_error() -> None:
    async def result() -> int:
        await asyncio.sleep(0.005)
        return 5

    async def error() -> None:
        await asyncio.sleep(0)
        raise KeyError("mine")

    app = FakeApp()
    assert await while_ours(app, event(0), result()) == 5
    with pytest.raises(KeyError):
        await while_ours(app, event(0), error())


@pytest.mark.parametrize("leave", [stop, rebalance, move])
async def test_a_wait_is_left_and_what_was_awaited_is_cancelled(leave: Callable[[FakeApp], None]) -> None:
    app, cancelled = FakeApp(), asyncio.Event()

    async def long() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    waiting = asyncio.create_task(while_ours(app, event(0), long()))
    await settled()
    leave(app)
    with pytest.raises(LeftUnacked):
        await asyncio.wait_for(waiting, 2)
    assert cancelled.is_set()


async def test_cancelling_the_wait_cancels_what_was_awaited() -> None:
    app, cancelled = FakeApp(), asyncio.Event()

    async def long() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    waiting = asyncio.create_task(while_ours(app, event(0), long()))
    await settled()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert cancelled.is_set()


async def test_a_sleep_ends_early_when_the_event_is_lost() -> None:
    app = FakeApp()
    sleeping = asyncio.create_task(sleep_while_ours(app, event(0), 3600))
    await settled()
    move(app)
    with pytest.raises(LeftUnacked):
        await asyncio.wait_for(sleeping, 2)


async def test_an_early_event_waits_for_the_end_of_the_rebalance() -> None:
    app = FakeApp()
    rebalance(app)
    waiting = asyncio.create_task(becomes_ours(app, event(0)))
    await settled()
    assert not waiting.done()
    app.rebalancing = False
    assert await waiting


@pytest.mark.parametrize("leave", [stop, move])
async def test_an_event_of_an_earlier_generation_never_becomes_ours(leave: Callable[[FakeApp], None]) -> None:
    app = FakeApp()
    rebalance(app)
    waiting = asyncio.create_task(becomes_ours(app, event(0)))
    await settled()
    leave(app)
    assert not await asyncio.wait_for(waiting, 2)


@pytest.mark.parametrize("partitions", [1, 8, 30])
def test_a_key_is_owned_by_whoever_has_the_partition_that_kafka_chooses(partitions: int) -> None:
    everywhere = list(range(partitions))
    for key in (b"t", b"tenant-1", "арендатор".encode(), b"a%3Ab", b""):
        chosen = DefaultPartitioner()(key, everywhere, everywhere)
        for partition in everywhere:
            assigned = {TP(BUDGET.name, partition), TP(MEDIA.name, chosen)}
            consumer = SimpleNamespace(assignment=assigned.copy)
            conf = SimpleNamespace(topic_partitions=partitions)
            app = SimpleNamespace(consumer=consumer, conf=conf, rebalancing=False)
            assert owns(app, BUDGET, key) == (partition == chosen)
            app.rebalancing = True
            assert not owns(app, BUDGET, key)
