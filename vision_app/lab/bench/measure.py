"""Publishes posts of one kind at once or at an even pace, and measures the workers until every post has ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
import psutil
from redis.asyncio import Redis

from vision_app.events import UPLOADED_EVENT
from vision_app.lab.soak.run import Tell
from vision_app.lab.soak.traffic import Clock, draw_picture
from vision_app.messages import Medium
from vision_app.operations import neighbours
from vision_app.operations.backlog import await_idle
from vision_app.operations.neighbours import Announced, as_text, await_announcements, newest_announcement
from vision_app.settings import Settings
from vision_app.stores.s3 import S3Store

from .profiler import Profiler

PATIENCE_SECONDS, PATIENCE_SECONDS_A_POST = 900.0, 0.1
TENANTS = 9
UPLOADS_AT_ONCE = 8
PUBLISHED_TOGETHER = 1000
ALBUM = 10
OURS = "ours"
WARM_UP = "warm up"

Event = Mapping[str, Any]


class Runner(Protocol):
    """A running worker of either kind."""

    @property
    def pid(self) -> int | None: ...


@dataclass(frozen=True)
class Capacity:
    """One row: `cpu_ms`, processor time of the workers and their decoders, and `seconds` are for all posts together."""

    kind: str
    worker: str
    posts: int
    ended: int
    seconds: float
    cpu_ms: float

    @property
    def per_second(self) -> float:
        return round(self.ended / self.seconds, 1) if self.seconds else 0.0

    @property
    def cpu_ms_a_post(self) -> float:
        return round(self.cpu_ms / self.posts, 2)


@dataclass(frozen=True)
class Published:
    """Posts that were published: `at_ms` of each, when Redis took it, and its first announcement, if it has one."""

    at_ms: Mapping[str, int]
    announced: Mapping[str, Announced]

    @property
    def waits_ms(self) -> list[int]:
        """Milliseconds from publishing to the announcement, of the announced posts."""
        return [event.at_ms - self.at_ms[post] for post, event in self.announced.items()]


@dataclass
class Measure:
    """Makes posts of each kind, `posts` of it, plays them, and measures. `run` is part of each tenant and post.

    `profiler`: samples our worker while it does a kind.
    """

    settings: Settings
    redis: Redis
    s3: S3Store
    run: str
    tell: Tell
    posts: int
    warm_up: int
    profiler: Profiler = field(default_factory=Profiler)
    _numbers: int = 0
    last: list[Event] = field(default_factory=list)

    # --- posts of each kind, published at once

    async def new(self, worker: str, *processes: Runner) -> Capacity:
        """Posts with a picture each that nobody has seen before."""
        self.tell(f"{worker}: uploading {self.warm_up + self.posts} pictures")
        warm_up = self.events("warm", await self.pictures(self.warm_up))
        events = self.events("new", await self.pictures(self.posts))
        if warm_up:
            await self._play(WARM_UP, worker, warm_up, processes)
        self.last = events
        return await self._play("new picture", worker, events, processes)

    async def known(self, *processes: Runner) -> Capacity:
        """New posts with pictures that their tenant has posted before."""
        return await self._play("known picture", OURS, self.known_events("known", len(self.last)), processes)

    async def skipped(self, *processes: Runner) -> Capacity:
        """Posts that the policy skips: a type that it does not allow."""
        return await self._play("skipped by policy", OURS, self.skipped_events(self.posts), processes)

    async def missing(self, *processes: Runner) -> Capacity:
        """Posts whose object was never uploaded."""
        media = [(tenant, neighbours.never_uploaded(tenant, f"{self.run} {n}")) for n, tenant in self._tenants()]
        return await self._play("missing object", OURS, self.events("missing", media), processes)

    async def duplicates(self, *processes: Runner) -> Capacity:
        """The entries of the new pictures once more: nothing is to be done."""
        return await self._play("duplicate", OURS, self.last, processes, announced=False)

    async def albums(self, *processes: Runner) -> Capacity:
        """Posts of ten new pictures each; a tenth as many."""
        posts = max(1, self.posts // ALBUM)
        pictures = await self.pictures(ALBUM * posts)
        events = []
        for number in range(posts):
            tenant = pictures[ALBUM * number][0]
            own = pictures[ALBUM * number : ALBUM * (number + 1)]
            media = [await self._moved(tenant, medium) for _, medium in own]
            events.append(self._event("album", tenant, media))
        return await self._play("album of ten", OURS, events, processes)

    # --- making posts

    def known_events(self, prefix: str, count: int) -> list[Event]:
        """New posts with the pictures of the last posts of `new`, which must have been played."""
        media = [(event["tenant_id"], Medium.model_validate(event["media_files"][0])) for event in self.last]
        return self.events(prefix, [media[number % len(media)] for number in range(count)])

    def skipped_events(self, count: int) -> list[Event]:
        """Posts that the policy skips."""
        named = ((n, f"{self.run}-{n % TENANTS}") for n in range(self._numbers, self._numbers + count))
        media = [(tenant, neighbours.never_uploaded(tenant, f"{self.run} {n}", "video/mp4")) for n, tenant in named]
        return self.events("skipped", media)

    async def _moved(self, tenant: str, medium: Medium) -> Medium:
        content = await self.s3.read(medium.s3_key, 1_000_000)
        return await neighbours.upload(self.s3, tenant, content, "image/png")

    def _tenants(self) -> Iterable[tuple[int, str]]:
        return ((number, f"{self.run}-{number % TENANTS}") for number in range(self.posts))

    async def pictures(self, count: int) -> list[tuple[str, Medium]]:
        """Upload so many new pictures. Returns each with its tenant."""
        slots = asyncio.Semaphore(UPLOADS_AT_ONCE)

        async def one(number: int) -> tuple[str, Medium]:
            async with slots:
                tenant = f"{self.run}-{number % TENANTS}"
                content = await asyncio.to_thread(draw_picture, 0, int(self.run[1:]) * 100_000 + number)
                return tenant, await neighbours.upload(self.s3, tenant, content, "image/png")

        first, self._numbers = self._numbers, self._numbers + count
        return list(await asyncio.gather(*(one(first + number) for number in range(count))))

    def events(self, prefix: str, media: Sequence[tuple[str, Medium]]) -> list[Event]:
        """A post for each medium."""
        return [self._event(prefix, tenant, [medium]) for tenant, medium in media]

    def _event(self, prefix: str, tenant: str, media: Sequence[Medium]) -> Event:
        self._numbers += 1
        post = f"{self.run}-{prefix}-{self._numbers:07d}"
        return neighbours.uploaded_event(tenant, post, media, f"t-{post}")

    # --- playing them

    async def _play(
        self, kind: str, worker: str, events: Sequence[Event], processes: Sequence[Runner], announced: bool = True
    ) -> Capacity:
        """Publish all at once and wait until all are announced, or until nothing is left to do."""
        self.tell(f"{worker}: {kind}, {len(events)} posts")
        profiler = self.profiler if worker == OURS and kind != WARM_UP else Profiler()
        alone = len(events) if len(processes) == 1 else 0
        async with profiler.profiled(kind, processes[0].pid, alone):
            return await self._measured(kind, worker, events, processes, announced)

    async def _measured(
        self, kind: str, worker: str, events: Sequence[Event], processes: Sequence[Runner], announced: bool
    ) -> Capacity:
        deadline = patience(len(events))
        busy, started = cpu_seconds(*processes), time.monotonic()
        if announced:
            ended = len((await self.publish(events)).announced)
        else:
            await self._publish_at_once(events)
            ended = 0 if await await_idle(self.redis, self.settings, deadline) else len(events)
        seconds = time.monotonic() - started
        if announced and worker == OURS:
            await await_idle(self.redis, self.settings, deadline)  # what follows the announcement is part of the cost
        cpu_ms = (cpu_seconds(*processes) - busy) * 1000
        return Capacity(kind, worker, len(events), ended, round(seconds, 2), round(cpu_ms, 1))

    async def publish(
        self,
        events: Sequence[Event],
        seconds: float = 0.0,
        on_event: Callable[[Announced], None] = lambda _: None,
    ) -> Published:
        """Publish all within `seconds`, at an even pace, and wait until all are announced."""
        deadline = patience(len(events)) + seconds
        since = await newest_announcement(self.redis, self.settings)
        if seconds:
            at_ms: dict[str, int] = {}
            clock = Clock(seconds)
            for number, event in enumerate(events):
                await clock.wait_for(number / len(events))
                at_ms |= await self._publish_at_once([event])
        else:
            at_ms = await self._publish_at_once(events)
        found = await await_announcements(self.redis, self.settings, at_ms.keys(), since, deadline, on_event=on_event)
        return Published(at_ms, found)

    async def _publish_at_once(self, events: Sequence[Event]) -> dict[str, int]:
        """Returns when Redis took each post, in milliseconds since the epoch."""
        at_ms: dict[str, int] = {}
        for first in range(0, len(events), PUBLISHED_TOGETHER):
            some = events[first : first + PUBLISHED_TOGETHER]
            async with self.redis.pipeline(transaction=False) as pipeline:
                for event in some:
                    data = orjson.dumps(event)
                    pipeline.xadd(self.settings.input_streams[0], {"event": UPLOADED_EVENT, "data": data})
                entries = await pipeline.execute()
            for event, entry in zip(some, entries, strict=True):
                at_ms[str(event["post_id"])] = int(as_text(entry).partition("-")[0])
        return at_ms


@asynccontextmanager
async def redis_and_bucket(settings: Settings) -> AsyncIterator[tuple[Redis, S3Store]]:
    """What every measurement publishes to, and where it uploads."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(Redis.from_url(settings.redis_url.get_secret_value()))
        s3 = S3Store(settings)
        await s3.open()
        stack.push_async_callback(s3.close)
        await s3.ensure_bucket()
        yield redis, s3


def patience(posts: int) -> float:
    """Until when (of `time.monotonic()`) so many posts are waited for."""
    return time.monotonic() + PATIENCE_SECONDS + PATIENCE_SECONDS_A_POST * posts


def cpu_seconds(*runners: Runner) -> float:
    """The processor time so far of workers and their children, including those that have ended."""
    seconds = 0.0
    for runner in runners:
        with contextlib.suppress(psutil.NoSuchProcess):  # a worker that was killed
            process = psutil.Process(runner.pid)
            for each in (process, *process.children()):
                with contextlib.suppress(psutil.NoSuchProcess):  # a child that ended just now: its parent counts it
                    times = each.cpu_times()
                    seconds += times.user + times.system + times.children_user + times.children_system
    return seconds
