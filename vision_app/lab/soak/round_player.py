"""Plays one round of the crash suite: its failure, its second worker, its posts, its operator's commands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from redis.asyncio import Redis

from vision_app.lab.faults import Proxies
from vision_app.operations.backlog import await_idle
from vision_app.settings import Settings
from vision_app.stores.s3 import S3Store

from .crashing_worker import CrashingWorker
from .disturb import abandoned_entries, poison, replay_letters, second_worker_running
from .operator import Operator
from .rounds import ERRORS, Round
from .traffic import Clock, publish_all, upload_all
from .workers import WorkerProcess

ROUND_SECONDS = 1800.0
OUTAGE_SECONDS = 6.0
PAUSE_SECONDS = 1.0
PLENTY_TOKENS, FEW_TOKENS = 1_000_000, 3_000
LATENCY = {"endpoint": "chat", "fault": {"kind": "latency", "seconds": 0.1, "max_seconds": 0.4}}
LONG_CALLS = {"endpoint": "chat", "fault": {"kind": "latency", "seconds": 4, "max_seconds": 6}}
LONG_CALL_SECONDS = 3.0  # after this time some of the calls are under way


@dataclass(frozen=True)
class Services:
    """The services that the rounds use. `variables`: the settings, as environment variables."""

    variables: Mapping[str, str]
    settings: Settings
    proxies: Proxies
    redis: Redis
    s3: S3Store


class RoundPlayer:
    """Plays a round on a crashing worker; in some rounds the `second` worker, without crash points, joins."""

    def __init__(self, services: Services, worker: CrashingWorker, second: WorkerProcess) -> None:
        self._services, self._worker, self._second = services, worker, second
        self._operator = Operator(services.settings, [worker.process.url])

    def second_worker(self, now: Round) -> AbstractAsyncContextManager[None]:
        """The second worker runs inside this context if the round has one."""
        return second_worker_running(self._second) if now.event.startswith("a second worker") else nullcontext()

    async def wait_until_done(self, now: Round) -> str:
        """Wait until all work of the round is done. Returns what is left after ROUND_SECONDS, "" if nothing."""
        deadline = time.monotonic() + ROUND_SECONDS
        return await self._operator.worked_off(self._services.redis, [now.tenant, now.poor], deadline)

    async def play(self, now: Round) -> None:
        """Disturb the worker as the round says, and publish its posts."""
        await self._operator.provider_rules(
            [*now.rules, LONG_CALLS if now.event == "a second worker is killed" else LATENCY]
        )
        await self._operator.limit(now.poor, FEW_TOKENS)
        if now.event == "errors":
            await self._worker.raise_errors(ERRORS)
        media = await upload_all(self._services.s3, now.posts, 0)
        if now.event == "abandoned entries":
            async with abandoned_entries(self._worker.process, self._services.redis, self._services.settings):
                await publish_all(self._services.redis, self._services.settings, now.posts, media, Clock(0))
        else:
            await publish_all(self._services.redis, self._services.settings, now.posts, media, Clock(0))
        if now.event == "a second worker is killed":
            await asyncio.sleep(LONG_CALL_SECONDS)
            await self._second.kill()
        if now.event == "poison":
            await poison(self._services.settings, now.tenant)
        if now.service:
            self._services.proxies.proxies[now.service].inject("down")
            await asyncio.sleep(OUTAGE_SECONDS)
            self._services.proxies.heal()
        if now.event == "endings":
            await self._worker.stop_without_death()
        await self._command(now)
        if now.event == "errors":
            await self._replay_after_errors(now)
            await self._operator.command(now.tenant, "resume")  # operators' commands are among the letters, too
        await self._operator.limit(now.poor, PLENTY_TOKENS)

    async def _replay_after_errors(self, now: Round) -> None:
        """As an operator after a bad release: start the good version, and replay the letters of the bad one."""
        left = await await_idle(self._services.redis, self._services.settings, time.monotonic() + ROUND_SECONDS)
        await self._worker.raise_errors(())
        for tenant in (now.tenant, now.poor):
            for error in ("Injected", "Oversized"):
                await replay_letters(self._services.variables, tenant, error)
        if left:
            self._worker.result.unexplained.append(f"with errors, {left} was not worked off")

    async def _command(self, now: Round) -> None:
        if now.command == "deleted key":
            await self._services.redis.delete(f"budget:tenant:{now.poor}:*")
        elif now.command == "reset":
            await self._operator.command(now.poor, "reset")
        elif now.command == "pause and resume":
            await self._operator.command(now.tenant, "pause")
            await asyncio.sleep(PAUSE_SECONDS)
            await self._operator.command(now.tenant, "resume")
