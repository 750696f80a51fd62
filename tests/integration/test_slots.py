"""Slots of an account over a real Redis: shared by workers, given back by the dead, kept to when Redis is away."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from pydantic import SecretStr

from tests.redis_server import RedisServer
from vision_app.lab.faults import Fault, FaultProxy
from vision_app.providers.slots import Slots
from vision_app.settings import Settings, load_settings


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    running = RedisServer(tmp_path)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def settings(server: RedisServer) -> Settings:
    return load_settings(redis_url=server.url, vision_provider_streams=4, gigachat_client_id="account")


async def worker(settings: Settings, **options: Any) -> Slots:
    slots = Slots(settings, **options)
    await slots.open()
    return slots


async def seen_by(slots: Slots, workers: int) -> None:
    """Wait until the worker knows of so many."""
    while slots.share != max(1, 4 // workers):
        await asyncio.sleep(0.01)


async def full(slots: Slots) -> bool:
    try:
        lease = await asyncio.wait_for(slots.acquire(), 0.4)
    except TimeoutError:
        return True
    await slots.release(lease)
    return False


async def test_two_workers_together_never_hold_more_than_the_account_has(settings: Settings) -> None:
    one, two = await worker(settings), await worker(settings)
    held, most = [0], [0]

    async def call(slots: Slots) -> None:
        lease = await slots.acquire()
        held[0] += 1
        most[0] = max(most[0], held[0])
        await asyncio.sleep(0.01)
        held[0] -= 1
        await slots.release(lease)

    await asyncio.gather(*(call(slots) for slots in (one, two) for _ in range(20)))
    assert most[0] == 4
    assert one.held == two.held == 0
    await one.close()
    await two.close()


async def test_a_slot_freed_by_another_worker_is_taken(settings: Settings) -> None:
    one, two = await worker(settings), await worker(settings)
    leases = [await one.acquire() for _ in range(4)]
    waiting = asyncio.create_task(two.acquire())
    await asyncio.wait({waiting}, timeout=0.3)
    assert not waiting.done()
    await one.release(leases[0])
    assert await asyncio.wait_for(waiting, 5)
    await one.close()
    await two.close()


async def test_the_slots_of_a_dead_worker_come_back_and_those_of_a_living_one_stay(settings: Settings) -> None:
    dead, alive = await worker(settings, lease_seconds=0.6), await worker(settings, lease_seconds=0.6)
    await alive.acquire()
    for _ in range(3):
        await dead.acquire()
    assert dead._renewing is not None
    dead._renewing.cancel()  # what kill -9 leaves: nobody renews, nobody gives back
    leases = [await asyncio.wait_for(alive.acquire(), 10) for _ in range(3)]
    assert len(set(leases)) == 3
    assert await full(alive)  # its first lease was renewed all the while
    await alive.close()
    await dead.close()


class LosingCancellations(Slots):
    """Its renewal's request swallows the cancellation that comes while it runs, as a client's may."""

    async def _renew(self) -> None:
        try:
            await super()._renew()
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            return


async def test_a_close_ends_though_the_cancellation_is_lost(settings: Settings) -> None:
    slots = LosingCancellations(settings, lease_seconds=60)
    await slots.open()
    lease = await slots.acquire()
    async with asyncio.timeout(10):
        await slots.close()
    assert lease
    assert slots.held == 0


async def test_accounts_do_not_share(settings: Settings) -> None:
    one = await worker(settings)
    other = await worker(settings.model_copy(update={"gigachat_client_id": "another"}))
    for _ in range(4):
        await one.acquire()
    assert not await full(other)
    await one.close()
    await other.close()


async def test_a_cancelled_wait_holds_nothing(settings: Settings) -> None:
    one = await worker(settings)
    for delay in range(20):
        waiting = asyncio.create_task(one.acquire())
        await asyncio.sleep(delay / 4000)
        waiting.cancel()
        done = await asyncio.gather(waiting, return_exceptions=True)
        if isinstance(done[0], str):
            await one.release(done[0])
    leases = [await asyncio.wait_for(one.acquire(), 5) for _ in range(4)]
    assert len(leases) == 4
    await one.close()


class ReleasingWhileRenewing(Slots):
    """Forces the one order that is rare: a lease is given back between its renewal's start and Redis' hearing of it."""

    async def _run(self, limit: int, *members: str) -> bool:
        for lease in members if limit < 0 else ():
            await self.release(lease)
        return await super()._run(limit, *members)


async def test_a_lease_given_back_during_its_renewal_does_not_live_on(settings: Settings) -> None:
    slots = ReleasingWhileRenewing(settings)
    await slots.acquire()
    await slots.open()
    async with redis.asyncio.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        while slots.held or await client.zcard(slots._keys[0]):
            await asyncio.sleep(0.01)
    await slots.close()


async def test_without_redis_each_worker_keeps_to_its_share(settings: Settings, server: RedisServer) -> None:
    one, two = await worker(settings, lease_seconds=1), await worker(settings, lease_seconds=1)
    await seen_by(one, 2)
    await seen_by(two, 2)
    server.stop()
    for slots in (one, two):
        leases = [await asyncio.wait_for(slots.acquire(), 10) for _ in range(2)]
        assert await full(slots)
        await slots.release(leases.pop())
        assert not await full(slots)
    server.start()
    async with redis.asyncio.Redis.from_url(server.url) as client:
        while await client.zcard(one._keys[0]) != 2:
            await asyncio.sleep(0.05)
    other = await worker(settings)
    while not await full(other):  # the two leases taken meanwhile are made known, two more may be had
        await other.acquire()
    assert other.held == 2
    for slots in (one, two, other):
        await slots.close()


async def test_a_worker_without_redis_from_the_start_has_all_slots() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"redis://127.0.0.1:{free.getsockname()[1]}/0"
        slots = await worker(load_settings(redis_url=nobody, vision_provider_streams=2))
        for _ in range(2):
            await asyncio.wait_for(slots.acquire(), 10)
        assert await full(slots)
        await slots.close()


@pytest.mark.parametrize("fault", ["down", "half_written"])
async def test_slots_given_back_while_redis_was_away_are_free_when_it_is_back(
    settings: Settings, server: RedisServer, fault: Fault
) -> None:
    """Not only when their leases expire: after an outage nobody would call for half a minute."""
    proxy = FaultProxy("redis", "127.0.0.1", server.port)
    url = f"redis://127.0.0.1:{await proxy.start()}/0"
    one, two = await worker(settings.model_copy(update={"redis_url": SecretStr(url)})), await worker(settings)
    leases = [await one.acquire() for _ in range(4)]
    proxy.inject(fault)
    for lease in leases:
        await one.release(lease)
    for _ in range(5):
        await one.release(await one.acquire())
    proxy.heal()
    await asyncio.wait_for(asyncio.gather(*(two.acquire() for _ in range(4))), 15)
    await one.close()
    await two.close()
    await proxy.stop()
