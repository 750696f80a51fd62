"""One benchmark: starts its own services and workers, publishes the plan, and reads the times from rows and events."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from redis.asyncio import Redis

from vision_app.audit.figures import percentile
from vision_app.clients.postgres import postgres_connection
from vision_app.clients.redis import redis_client
from vision_app.events import ANALYZED_EVENT
from vision_app.lab.soak.operator import Operator
from vision_app.lab.soak.plan import PlannedPost
from vision_app.lab.soak.run import Tell
from vision_app.lab.soak.traffic import Clock, publish_all, upload_all
from vision_app.lab.soak.workers import WorkerLost, WorkerProcess
from vision_app.operations.backlog import await_idle
from vision_app.operations.neighbours import Announced, announcements_since, await_announcements, newest_announcement
from vision_app.settings import Settings, load_settings
from vision_app.stores.s3 import S3Store

from .measure import cpu_seconds
from .plan import BenchOptions, BenchPlan, draw
from .profiler import Profiler
from .viewers import viewers

PATIENCE_SECONDS = 900.0  # how long to wait for published posts after a phase
Awaited = TypeVar("Awaited")

ENVIRONMENT = {"VISION_MAX_DAILY_TOKENS": "1000000000"}


@dataclass(frozen=True)
class Phase:
    """Milliseconds from publishing to the first event. `stages`: the median time between two stages.

    `cpu_ms`: processor time of workers and decoders during the phase, divided by the posts of the phase.
    """

    name: str
    posts: int
    announced: int
    p50: float
    p95: float
    p99: float
    longest: float
    cpu_ms: float
    stages: dict[str, float]


@dataclass
class BenchResult:
    """`flood_early`: posts of the flood that were announced when the phase under flood ended; `flood_announced`: those
    at the end, after `flood_seconds`. `left`: unfinished work. `views`: documents that viewers
    got, and how many of them failed.
    """

    wish: BenchOptions
    phases: list[Phase] = field(default_factory=list)
    flood_early: int = 0
    flood_announced: int = 0
    flood_seconds: float = 0.0
    left: str = ""
    views: int = 0
    views_failed: int = 0

    @property
    def ok(self) -> bool:
        """Whether everything ended. The times are not checked."""
        announced = all(phase.announced == phase.posts for phase in self.phases)
        return announced and self.flood_announced == self.wish.flood and not self.left and not self.views_failed

    @property
    def ratio(self) -> float | None:
        """The p95 under flood divided by the calm p95."""
        calm, *stormy = self.phases
        return round(stormy[0].p95 / calm.p95, 2) if stormy and calm.p95 else None


async def bench(
    wish: BenchOptions, variables: Mapping[str, str], tell: Tell, profiler: Profiler | None = None
) -> BenchResult:
    """Run against the services in `variables`. Raises WorkerLost, and the errors of stores that are away.

    `profiler`: samples the first worker in each phase.
    """
    settings = load_settings(**{name.lower(): value for name, value in variables.items()})
    plan, taken = draw(wish, f"bench-{int(time.time()) % 1_000_000}"), set[int]()
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_client(settings))
        s3 = S3Store(settings)
        await s3.open()
        stack.push_async_callback(s3.close)
        environment = {**variables, **ENVIRONMENT}
        workers = [WorkerProcess(n + 1, environment, wish.home / "logs", taken) for n in range(wish.workers)]
        for worker in workers:
            stack.push_async_callback(worker.kill)
            await worker.start()
        tell(f"uploading {len(plan.posts)} pictures, starting {wish.workers} workers")
        media = await upload_all(s3, plan.posts, 0)
        await asyncio.gather(*(worker.ready() for worker in workers))
        shortest, longest = wish.answers
        operator = Operator(settings, [worker.url for worker in workers])
        slow = {"endpoint": "chat", "fault": {"kind": "latency", "seconds": shortest, "max_seconds": longest}}
        await operator.provider_rules([slow] if longest else [])
        urls = [worker.url for worker in workers]
        async with viewers(urls, wish.viewers) as statuses:
            result = await _Run(
                wish, plan, settings, redis, media, workers, operator, tell, profiler or Profiler()
            ).play()
        result.views, result.views_failed = len(statuses), sum(status != 200 for status in statuses)
        return result


@dataclass
class _Run:
    wish: BenchOptions
    plan: BenchPlan
    settings: Settings
    redis: Redis
    media: Mapping[Any, Any]
    workers: Sequence[WorkerProcess]
    operator: Operator
    tell: Tell
    profiler: Profiler

    async def play(self) -> BenchResult:
        result = BenchResult(self.wish)
        if self.plan.warm_up:
            self.tell(f"warming up: {len(self.plan.warm_up)} posts in {self.wish.warm_up:g} s")
            await self._publish("warm-up", self.plan.warm_up, self.wish.warm_up)
        since = await newest_announcement(self.redis, self.settings)
        for name, posts in self.plan.phases.items():
            if name == "under flood":
                self.tell(f"one tenant publishes {len(self.plan.flood)} posts at once")
                await publish_all(self.redis, self.settings, self.plan.flood, self.media, Clock(0))
            self.tell(f"{name}: {len(posts)} posts in {self.wish.seconds:g} s")
            alone = len(posts) if len(self.workers) == 1 and not result.phases else 0
            async with self.profiler.profiled(name, self.workers[0].pid, alone):
                phase = await self._publish(name, posts, self.wish.seconds)
            result.phases.append(phase)
        if self.plan.flood:
            result.flood_early = len(await self._flood(since))
            self.tell(f"of the flood {result.flood_early} posts have ended; the rest has to")
        await self.operator.provider_rules([])
        result.left = str(await self._left() or "")
        if flood := await self._flood(since):
            times = await _times(self.settings, list(flood))
            result.flood_announced = len(flood)
            started = min(times[post]["published"] for post in flood)
            result.flood_seconds = round((max(flood.values()) - started) / 1000, 1)
        return result

    async def _left(self) -> Any:
        return await await_idle(self.redis, self.settings, time.monotonic() + PATIENCE_SECONDS + len(self.plan.flood))

    async def _publish(self, name: str, posts: Sequence[PlannedPost], seconds: float) -> Phase:
        """One phase: publish every post at its time and wait until all are announced."""
        since, busy = await newest_announcement(self.redis, self.settings), cpu_seconds(*self.workers)
        await publish_all(self.redis, self.settings, posts, self.media, Clock(seconds))
        ids, deadline = [post.post_id for post in posts], time.monotonic() + PATIENCE_SECONDS
        found = await self._while_workers_live(await_announcements(self.redis, self.settings, ids, since, deadline))
        cpu_ms = (cpu_seconds(*self.workers) - busy) * 1000 / len(posts)
        times = await _times(self.settings, ids)
        waits = [event.at_ms - times[post]["published"] for post, event in found.items() if _analyzed(event)]
        return Phase(
            name,
            posts=len(posts),
            announced=len(waits),
            p50=percentile(waits, 0.5),
            p95=percentile(waits, 0.95),
            p99=percentile(waits, 0.99),
            longest=max(waits, default=0),
            cpu_ms=round(cpu_ms, 1),
            stages=_stages(list(times.values())),
        )

    async def _flood(self, since: str) -> dict[str, int]:
        """The time of the first announcement of each analyzed post of the flood."""
        posts = [post.post_id for post in self.plan.flood]
        found = await announcements_since(self.redis, self.settings, posts, since)
        return {post: events[0].at_ms for post, events in found.items() if events and _analyzed(events[0])}

    async def _while_workers_live(self, waiting: Awaitable[Awaited]) -> Awaited:
        """Wait while all workers live. Raises WorkerLost when one has ended."""
        task = asyncio.ensure_future(waiting)
        while not (await asyncio.wait({task}, timeout=1))[0]:
            for worker in self.workers:
                if worker.ended_by_itself:
                    task.cancel()
                    raise WorkerLost(f"{worker.name} has ended; see {worker.log}")
        return task.result()


def _analyzed(event: Announced) -> bool:
    return event.event_type == ANALYZED_EVENT


async def _times(settings: Settings, posts: Sequence[str]) -> dict[str, dict[str, int]]:
    """The times at which each post reached its stages (Unix time in milliseconds), from its row."""
    connection = await postgres_connection(settings, application="vision-bench")
    try:
        rows = await connection.fetch("SELECT post_id, data FROM post_enrichment WHERE post_id = ANY($1)", posts)
    finally:
        await connection.close()
    found = {}
    for row in rows:
        data = orjson.loads(row["data"])
        [medium] = data["media"]
        found[row["post_id"]] = {**data.get("times", {}), **medium.get("times", {})}
    return found


def _stages(times: Sequence[Mapping[str, int]]) -> dict[str, float]:
    """The median milliseconds between stages that follow each other in most posts."""
    gaps: dict[str, list[int]] = defaultdict(list)
    for one in times:
        for (before, start), (after, end) in itertools.pairwise(sorted(one.items(), key=lambda item: item[1])):
            gaps[f"{before} → {after}"].append(end - start)
    return {gap: statistics.median(values) for gap, values in gaps.items() if len(values) > len(times) / 2}
