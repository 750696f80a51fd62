"""Cluster-wide slots of one provider account, as leases in Redis. They limit the requests in flight of all workers.

The leases of a dead worker expire. While Redis is away, each worker uses only its own share. The gate decides which
task gets the next slot (`gate.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import socket
import time
import uuid

import structlog
from redis.exceptions import RedisError

from vision_app.clients.redis import redis_client, redis_fault
from vision_app.settings import Settings

log = structlog.get_logger(__name__)

LEASE_SECONDS = 30.0  # how long a dead worker's slots stay taken
RENEWALS_PER_LEASE = 3
POLL_SECONDS = 0.1  # between checks for a slot freed by another worker; our own are noticed at once
REDIS_TIMEOUT_SECONDS = 2.0
AWAY_SECONDS = 1.0  # after a failure Redis is not called for this long

# KEYS: slots, workers. ARGV: lease ms, worker, limit, members…: all are renewed; the last one (if limit >= 0) is a
# new request. Uses Redis' clock, because the workers' clocks may differ. Returns (granted 0|1, workers alive).
_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease, worker, limit = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + lease, worker)
local last = #ARGV
local granted = 0
if limit >= 0 then
    if redis.call('ZCARD', KEYS[1]) < limit then
        redis.call('ZADD', KEYS[1], now + lease, ARGV[last])
        granted = 1
    end
    last = last - 1
end
for i = 4, last do
    redis.call('ZADD', KEYS[1], now + lease, ARGV[i])
end
redis.call('PEXPIRE', KEYS[1], lease)
redis.call('PEXPIRE', KEYS[2], lease)
return {granted, redis.call('ZCARD', KEYS[2])}
"""


class Slots:
    """`vision_provider_streams` slots shared by all workers that use the same GigaChat account and Redis."""

    def __init__(self, settings: Settings, lease_seconds: float = LEASE_SECONDS) -> None:
        account = settings.gigachat_client_id or settings.gigachat_authorization.get_secret_value()
        name = "vision:slots:{" + hashlib.sha256(account.encode()).hexdigest()[:16] + "}"
        self._keys = (name, f"{name}:workers")
        self._limit = settings.vision_provider_streams
        self._lease_seconds = lease_seconds
        self._worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._held: set[str] = set()
        self._left: set[str] = set()  # released or never granted while Redis was away; Redis may still count them
        self._workers = 1
        self._away_until = 0.0
        self._freed = asyncio.Event()
        self._settings = settings
        self._redis = redis_client(settings, timeout=REDIS_TIMEOUT_SECONDS)  # it never retries: the renewals do
        self._script = self._redis.register_script(_SCRIPT)
        self._renewing: asyncio.Task[None] | None = None
        self._closing = False

    async def open(self) -> None:
        """Register this worker and start renewing its leases. Does not fail when Redis is away."""
        self._renewing = asyncio.create_task(self._renew_for_ever(), name="slots-renewal")

    async def close(self) -> None:
        """Release the held leases. Leases that cannot be released expire."""
        self._closing = True  # a cancellation may get lost in a client's request, and the renewal would go on
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        try:
            if self._held:
                await self._redis.zrem(self._keys[0], *self._held)
            await self._redis.zrem(self._keys[1], self._worker)
        except RedisError as fault:
            log.info("slots_release_failed", error=str(fault), expire_after_seconds=self._lease_seconds)
        self._held.clear()
        await self._redis.aclose()

    @property
    def held(self) -> int:
        """Slots this worker holds."""
        return len(self._held)

    @property
    def share(self) -> int:
        """Slots this worker may hold while Redis is away: its part of the account's slots, at least one."""
        return max(1, self._limit // max(1, self._workers))

    async def acquire(self) -> str:
        """Wait for a slot. Returns its lease, to be passed to `release`. Safe to cancel."""
        while True:
            lease = f"{self._worker}:{uuid.uuid4().hex[:12]}"  # a new one each time: the last one may be being released
            self._freed.clear()
            if await self._try(lease):
                return lease
            pause = POLL_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 - spreads the workers, not a secret
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):  # not wait_for: Python 3.11's may swallow a cancellation
                    await self._freed.wait()

    async def release(self, lease: str) -> None:
        """Release a slot. Never fails: if Redis is away, it is told when it is back, or the lease expires."""
        self._held.discard(lease)
        self._freed.set()
        self._left.add(lease)
        if time.monotonic() < self._away_until:
            return
        try:
            await self._give_back({lease})
        except RedisError as fault:
            self._gone(fault)

    async def _try(self, lease: str) -> bool:
        try:
            granted = await self._ask(lease)
        except asyncio.CancelledError:  # Redis may have granted it anyway
            await asyncio.shield(self.release(lease))
            raise
        if granted:
            self._held.add(lease)
            self._left.discard(lease)
        return granted

    async def _ask(self, lease: str) -> bool:
        if time.monotonic() >= self._away_until:
            try:
                return await self._run(self._limit, lease)
            except RedisError as fault:
                self._left.add(lease)  # Redis may have granted it and only the answer was lost
                self._gone(fault)
        return len(self._held) < self.share

    async def _run(self, limit: int, *members: str) -> bool:
        argv: list[str | int] = [int(self._lease_seconds * 1000), self._worker, limit, *members]
        granted, workers = await self._script(keys=self._keys, args=argv)
        self._workers = int(workers)
        return bool(granted)

    async def _renew_for_ever(self) -> None:
        while not self._closing:
            try:
                await self._renew()
            except RedisError as fault:
                self._gone(fault)
            if self._closing:
                return
            # After Redis is back, the next renewal tells it the slots taken meanwhile.
            away = time.monotonic() < self._away_until
            await asyncio.sleep(AWAY_SECONDS if away else self._lease_seconds / RENEWALS_PER_LEASE)

    async def _renew(self) -> None:
        members = set(self._held)
        await self._run(-1, *members)
        await self._give_back(self._left | (members - self._held))  # the latter were renewed after their release

    async def _give_back(self, leases: set[str]) -> None:
        if unheld := leases - self._held:
            await self._redis.zrem(self._keys[0], *unheld)
        self._left -= leases

    def _gone(self, fault: RedisError) -> None:
        self._away_until = time.monotonic() + AWAY_SECONDS
        log.warning("slots_redis_unavailable", error=redis_fault(fault, self._settings), own_share=self.share)
