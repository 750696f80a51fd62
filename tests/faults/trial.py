"""One dependency misbehaves under load: what was lost, doubled, paid and said meanwhile, and how long recovery took."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.faults.load import Load, Published
from tests.integration.pipeline import Pipeline, Worker, unique
from vision_app.audit import take_account
from vision_app.audit.figures import percentile
from vision_app.lab.faults import Fault, Proxies
from vision_app.operations.neighbours import Announced, await_announcements, never_uploaded

PER_SECOND = float(os.environ.get("FAULT_POSTS_PER_SECOND", "4"))
TENANTS = 3
BEFORE_SECONDS = AFTER_SECONDS = 2.0
RECOVERY_SECONDS = 180.0
MANY_SECONDS = 600.0
NAMED_SECONDS = 60.0
NOTHING_PASSES: tuple[Fault, ...] = ("down", "hang")
LATENCY = {"endpoint": "chat", "fault": {"kind": "latency", "seconds": 0.2, "max_seconds": 0.6}}


@dataclass
class Outcome:
    """One row of the table: what the accountant found, and what it cannot see."""

    dependency: str
    fault: str
    seconds: float
    account: dict[str, Any] = field(default_factory=dict)
    discrepancies: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    readiness: list[str] = field(default_factory=list)
    restarts: int = 0
    recovery_seconds: float | None = None
    wait_p95_ms: dict[str, float] = field(default_factory=dict)

    @property
    def named(self) -> bool:
        """Whether readiness has named the service."""
        return any(self.dependency in said.lower() for said in self.readiness)


@dataclass
class Seen:
    """What a test may look at beyond the row. `ended_by`: per post its answer's provider, or why there is none."""

    load: Load
    began_ms: int
    healed_ms: int
    newcomer: str
    newcomer_ms: int
    events_ms: list[int]
    ended_by: dict[str, str]
    calls: list[dict[str, Any]]
    spent_during: list[int]
    passed: bool

    def published_between(self, start_ms: float, end_ms: float) -> list[Published]:
        return [each for each in self.load.published if start_ms <= each.at_ms < end_ms]


class Trial:
    """A worker behind proxies; it is started again when it ends, as a supervisor does."""

    def __init__(self, pipe: Pipeline, worker: Worker, proxies: Proxies) -> None:
        self._pipe, self._worker, self._proxies = pipe, worker, proxies

    async def run(self, dependency: str, fault: Fault, seconds: float, *, passes: bool = False) -> tuple[Outcome, Seen]:
        """With "down" and "hang" the fault lasts on until readiness names the service; `passes`: until all that was
        published before its middle is announced nevertheless.
        """
        outcome = Outcome(dependency, fault, seconds)
        tag = unique(f"{dependency}-{fault}")
        load = Load(
            self._pipe, tag, [f"{tag}-tenant-{n}" for n in range(TENANTS)], PER_SECOND, await self._pipe.newest()
        )
        await self._pipe.faults(LATENCY)
        async with self._restarting(outcome), load.running():
            await asyncio.sleep(BEFORE_SECONDS)
            began_ms = _now_ms()
            self._proxies.proxies[dependency].inject(fault)
            async with self._listening(outcome):
                await asyncio.sleep(seconds / 2)
                newcomer, newcomer_ms = f"{tag}-newcomer", _now_ms()
                load.tenants.append(newcomer)
                spent_early = await self._spent(load.tenants[:TENANTS])
                await asyncio.sleep(seconds / 2)
                spent_late = await self._spent(load.tenants[:TENANTS])
                early = [each for each in load.published if each.at_ms < newcomer_ms]
                if fault in NOTHING_PASSES:
                    await self._named(outcome)
                passed = passes and await load.announced(early, RECOVERY_SECONDS)
            self._proxies.heal()
            healed_ms = _now_ms()
            await asyncio.sleep(AFTER_SECONDS)
        async with self._restarting(outcome):
            await self._recover(outcome, load, healed_ms)
            await self._pipe.idle()
            found = await load.events()
            ended_by = {post: _kind(events[-1].body) for post, events in found.items() if events}
            outcome.kinds = dict(Counter(ended_by.values()))
            await self._count(outcome, load, found, began_ms, healed_ms)
            calls = await self._pipe.billed(tag)
            at = [event.at_ms for events in found.values() for event in events]
            spent = [spent_early, spent_late]
            return outcome, Seen(load, began_ms, healed_ms, newcomer, newcomer_ms, at, ended_by, calls, spent, passed)

    async def skipped_posts(self, count: int, dependency: str, fault: Fault) -> set[str]:
        """Publish posts whose pictures are missing, which is quickly told, and return those announced meanwhile."""
        tag, since = unique(f"{dependency}-{fault}-many"), await self._pipe.newest()
        posts = [f"{tag}-{number:04}" for number in range(count)]
        self._proxies.proxies[dependency].inject(fault)
        try:
            for post in posts:
                await self._pipe.publish(tag, post, [never_uploaded(tag, post)])
            deadline = time.monotonic() + MANY_SECONDS
            found = await await_announcements(self._pipe.redis, self._pipe.settings, posts, since, deadline)
        finally:
            self._proxies.heal()
        await self._pipe.idle()
        return set(found)

    async def end_during(self, dependency: str, fault: Fault) -> float:
        """Tell the worker to end while the fault lasts and posts are on their way, then start it again; returns the
        seconds its end took. All posts must have ended then.
        """
        tag, since = unique(f"{dependency}-{fault}-end"), await self._pipe.newest()
        await self._pipe.faults(LATENCY)
        load = Load(self._pipe, tag, [f"{tag}-tenant-{n}" for n in range(TENANTS)], PER_SECOND, since)
        for tenant in load.tenants * 3:
            await load.publish(tenant)
        self._proxies.proxies[dependency].inject(fault)
        try:
            seconds = await asyncio.to_thread(self._worker.stop)
        finally:
            self._proxies.heal()
            self._worker.start()
            await self._worker.ready()
        assert await load.announced(load.published, RECOVERY_SECONDS)
        return seconds

    async def _named(self, outcome: Outcome) -> None:
        deadline = time.monotonic() + NAMED_SECONDS
        while not outcome.named and time.monotonic() < deadline:
            await asyncio.sleep(0.2)

    async def _recover(self, outcome: Outcome, load: Load, healed_ms: int) -> None:
        before = [each for each in load.published if each.at_ms < healed_ms]
        if await load.announced(before, RECOVERY_SECONDS):
            outcome.recovery_seconds = round((await _last_first(load, before) - healed_ms) / 1000, 1)
        await load.announced(load.published, RECOVERY_SECONDS)

    async def _count(
        self, outcome: Outcome, load: Load, events: dict[str, list[Announced]], began_ms: int, healed_ms: int
    ) -> None:
        account = await take_account(self._pipe.settings, since_ms=load.since_ms, tenants=load.tenants)
        outcome.account = {name: value for name, value in account.as_dict().items() if isinstance(value, int)}
        outcome.discrepancies, outcome.notes = account.discrepancies, account.notes
        during = [each for each in load.published if began_ms <= each.at_ms < healed_ms]
        calm = [each for each in load.published if each.at_ms < began_ms]
        outcome.wait_p95_ms = {
            "before": percentile(load.waits(events, calm), 0.95),
            "during": percentile(load.waits(events, during), 0.95),
        }

    async def _spent(self, tenants: list[str]) -> int:
        """By the ledger; -1 while the worker does not answer."""
        try:
            return sum([(await self._pipe.budget(self._worker, tenant))["spent"] for tenant in tenants])
        except httpx.HTTPError:
            return -1

    @contextlib.asynccontextmanager
    async def _restarting(self, outcome: Outcome) -> AsyncIterator[None]:
        async def keep_alive() -> None:
            if not self._worker.alive:
                outcome.restarts += 1
                self._worker.start()

        async with _every(0.5, keep_alive):
            yield

    @contextlib.asynccontextmanager
    async def _listening(self, outcome: Outcome) -> AsyncIterator[None]:
        """What GET /readyz says meanwhile, each thing once."""

        async def ask() -> None:
            said = await self.readiness()
            outcome.readiness += [each for each in said if each not in outcome.readiness]

        async with _every(0.5, ask):
            yield

    async def readiness(self) -> list[str]:
        """The reason not to be ready, if any, and what is waited for."""
        try:
            async with httpx.AsyncClient(base_url=self._worker.url, trust_env=False, timeout=2) as client:
                body = (await client.get("/readyz")).json()
        except httpx.HTTPError:
            return ["no answer"]
        return [*([body["reason"]] if body.get("reason") else []), *body["waiting_for"]]


@contextlib.asynccontextmanager
async def _every(seconds: float, look: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    async def for_ever() -> None:
        while True:
            await look()
            await asyncio.sleep(seconds)

    looking = asyncio.create_task(for_ever())
    try:
        yield
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


async def _last_first(load: Load, posts: list[Published]) -> int:
    events = await load.events()
    return max((events[each.post][0].at_ms for each in posts), default=0)


def _kind(body: Any) -> str:
    """How the one medium ended: its provider if it has an answer, otherwise its reason."""
    [item] = body.get("enrichments") or body["reasons"]
    return str((item.get("analysis") or {}).get("provider") or item.get("provider") or item.get("reason"))


def _now_ms() -> int:
    return round(time.time() * 1000)
