"""What one worker can take, and what it costs: posts of each kind published at once, ours beside a plain worker.

The provider answers at once, so that only the work around it is measured. Both workers run on the same services, one
after the other, with posts of the same shape.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson
import psutil
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from vision_app.events import UPLOADED_EVENT
from vision_app.lab.soak.run import Tell
from vision_app.lab.soak.traffic import draw_picture
from vision_app.lab.soak.workers import WorkerLost, WorkerProcess
from vision_app.messages import Medium
from vision_app.operations import neighbours
from vision_app.operations.backlog import await_idle
from vision_app.operations.neighbours import await_announcements, newest_announcement
from vision_app.settings import Settings, load_settings
from vision_app.stack.process import spawn
from vision_app.stores.s3 import S3Store

from .profiler import profiled

PATIENCE_SECONDS = 900.0
ENVIRONMENT = {"VISION_MAX_DAILY_TOKENS": "1000000000"}
TENANTS = 9
UPLOADS_AT_ONCE = 8
PLAIN = (sys.executable, "-u", "-m", "vision_app.lab.bench.plain_worker")


@dataclass(frozen=True)
class CapacityOptions:
    """`posts` of each kind at once; the first `warm_up` of new pictures are not counted. `home`: the run's folder.

    `profiles`: a folder for a flame graph of our worker for each kind, or None.
    """

    home: Path
    posts: int
    warm_up: int
    plain_at_once: Sequence[int] = (1, 10)
    profiles: Path | None = None


@dataclass(frozen=True)
class Capacity:
    """One row: `cpu_ms`, processor time of the worker and its decoders, and `seconds` are for all posts together."""

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


@dataclass
class CapacityResult:
    rows: list[Capacity] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every post ended. The times are not judged."""
        return all(row.ended == row.posts for row in self.rows)


class Runner(Protocol):
    """A running worker of either kind."""

    @property
    def pid(self) -> int | None: ...


async def capacity(wish: CapacityOptions, variables: Mapping[str, str], tell: Tell) -> CapacityResult:
    """Run against the services in `variables`. Raises WorkerLost, and the errors of stores that are away."""
    settings = load_settings(**{name.lower(): value for name, value in variables.items()})
    environment = {**variables, **ENVIRONMENT}
    result = CapacityResult()
    await asyncio.to_thread((wish.home / "logs").mkdir, parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(Redis.from_url(settings.redis_url.get_secret_value()))
        s3 = S3Store(settings)
        await s3.open()
        stack.push_async_callback(s3.close)
        await s3.ensure_bucket()
        measure = _Measure(wish, settings, redis, s3, f"c{int(time.time()) % 1_000_000}", tell)
        for at_once in wish.plain_at_once:
            async with _plain(wish.home / "logs", environment, at_once) as plain:
                name = f"plain, {at_once} at once"
                result.rows.append(await measure.new(name, plain))
        ours = WorkerProcess(1, environment, wish.home / "logs", set())
        stack.push_async_callback(ours.kill)
        await ours.start()
        await ours.ready()
        result.rows.append(await measure.new("ours", ours))
        for kind in (measure.known, measure.skipped, measure.missing, measure.duplicates, measure.albums):
            result.rows.append(await kind(ours))
    return result


@asynccontextmanager
async def _plain(logs: Path, environment: Mapping[str, str], at_once: int) -> AsyncIterator[Runner]:
    log = logs / f"plain-{at_once}.log"
    process = await spawn([*PLAIN, str(at_once)], {**os.environ, **environment}, log, signal.SIGTERM)
    try:
        while b"ready" not in await asyncio.to_thread(log.read_bytes):
            if process.returncode is not None:
                raise WorkerLost(f"the plain worker ended; see {log}")
            await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


Event = Mapping[str, Any]


@dataclass
class _Measure:
    wish: CapacityOptions
    settings: Settings
    redis: Redis
    s3: S3Store
    run: str
    tell: Tell
    _numbers: int = 0
    _last: list[Event] = field(default_factory=list)

    async def new(self, worker: str, process: Runner) -> Capacity:
        """Posts with a picture each that nobody has seen before."""
        self.tell(f"{worker}: uploading {self.wish.warm_up + self.wish.posts} pictures")
        warm_up = await self._events("warm", await self._pictures(self.wish.warm_up))
        events = await self._events("new", await self._pictures(self.wish.posts))
        await self._play("warm up", worker, warm_up, process)
        self._last = events
        return await self._play("new picture", worker, events, process)

    async def known(self, process: Runner) -> Capacity:
        """New posts with pictures that their tenant has posted before."""
        media = [(event["tenant_id"], Medium.model_validate(event["media_files"][0])) for event in self._last]
        return await self._play("known picture", "ours", await self._events("known", media), process)

    async def skipped(self, process: Runner) -> Capacity:
        """Posts that the policy skips: a type that it does not allow."""
        media = [
            (tenant, neighbours.never_uploaded(tenant, f"{self.run} {n}", "video/mp4")) for n, tenant in self._tenants()
        ]
        return await self._play("skipped by policy", "ours", await self._events("skipped", media), process)

    async def missing(self, process: Runner) -> Capacity:
        """Posts whose object was never uploaded."""
        media = [(tenant, neighbours.never_uploaded(tenant, f"{self.run} {n}")) for n, tenant in self._tenants()]
        return await self._play("missing object", "ours", await self._events("missing", media), process)

    async def duplicates(self, process: Runner) -> Capacity:
        """The entries of the new pictures once more: nothing is to be done."""
        return await self._play("duplicate", "ours", self._last, process, announced=False)

    async def albums(self, process: Runner) -> Capacity:
        """Posts of ten new pictures each; a tenth as many."""
        posts = max(1, self.wish.posts // 10)
        pictures = await self._pictures(10 * posts)
        events = []
        for number in range(posts):
            tenant = pictures[10 * number][0]
            media = [await self._moved(tenant, medium) for _, medium in pictures[10 * number : 10 * number + 10]]
            events.append(self._event("album", tenant, media))
        return await self._play("album of ten", "ours", events, process)

    async def _moved(self, tenant: str, medium: Medium) -> Medium:
        content = await self.s3.read(medium.s3_key, 1_000_000)
        return await neighbours.upload(self.s3, tenant, content, "image/png")

    def _tenants(self) -> Iterable[tuple[int, str]]:
        return ((number, f"{self.run}-{number % TENANTS}") for number in range(self.wish.posts))

    async def _pictures(self, count: int) -> list[tuple[str, Medium]]:
        slots = asyncio.Semaphore(UPLOADS_AT_ONCE)

        async def one(number: int) -> tuple[str, Medium]:
            async with slots:
                tenant = f"{self.run}-{number % TENANTS}"
                content = await asyncio.to_thread(draw_picture, 0, int(self.run[1:]) * 100_000 + number)
                return tenant, await neighbours.upload(self.s3, tenant, content, "image/png")

        first, self._numbers = self._numbers, self._numbers + count
        return list(await asyncio.gather(*(one(first + number) for number in range(count))))

    async def _events(self, prefix: str, media: Sequence[tuple[str, Medium]]) -> list[Event]:
        return [self._event(prefix, tenant, [medium]) for tenant, medium in media]

    def _event(self, prefix: str, tenant: str, media: Sequence[Medium]) -> Event:
        self._numbers += 1
        post = f"{self.run}-{prefix}-{self._numbers:07d}"
        return neighbours.uploaded_event(tenant, post, media, f"t-{post}")

    async def _play(
        self, kind: str, worker: str, events: Sequence[Event], process: Runner, announced: bool = True
    ) -> Capacity:
        """Publish all at once and wait until all are announced, or until nothing is left to do."""
        self.tell(f"{worker}: {kind}, {len(events)} posts")
        profiles = self.wish.profiles if worker == "ours" else None
        async with profiled(process.pid, profiles and profiles / f"{kind.replace(' ', '-')}.svg"):
            return await self._measured(kind, worker, events, process, announced)

    async def _measured(
        self, kind: str, worker: str, events: Sequence[Event], process: Runner, announced: bool
    ) -> Capacity:
        since, deadline = await newest_announcement(self.redis, self.settings), time.monotonic() + PATIENCE_SECONDS
        busy, started = cpu_seconds(process.pid), time.monotonic()
        async with self.redis.pipeline(transaction=False) as pipeline:
            for event in events:
                pipeline.xadd(self.settings.input_streams[0], {"event": UPLOADED_EVENT, "data": orjson.dumps(event)})
            await pipeline.execute()
        if announced:
            ids = {str(event["post_id"]) for event in events}
            ended = len(await await_announcements(self.redis, self.settings, ids, since, deadline))
        else:
            ended = 0 if await await_idle(self.redis, self.settings, deadline) else len(events)
        seconds = time.monotonic() - started
        if announced and worker == "ours":
            await await_idle(self.redis, self.settings, deadline)  # what follows the announcement is part of the cost
        cpu_ms = (cpu_seconds(process.pid) - busy) * 1000
        return Capacity(kind, worker, len(events), ended, round(seconds, 2), round(cpu_ms, 1))


def cpu_seconds(pid: int | None) -> float:
    """The processor time so far of a worker and its children, including those that have ended."""
    seconds = 0.0
    process = psutil.Process(pid)
    for each in (process, *process.children()):
        with contextlib.suppress(psutil.NoSuchProcess):  # a child that ended just now: its parent counts it
            times = each.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


def as_json(result: CapacityResult) -> dict[str, Any]:
    return {
        "ok": result.ok,
        "rows": [
            {**asdict(row), "per_second": row.per_second, "cpu_ms_a_post": row.cpu_ms_a_post} for row in result.rows
        ],
    }


def show(console: Console, result: CapacityResult) -> None:
    """The rows as a table."""
    table = Table("posts of", "worker", title="Published at once; the provider answers at once", title_justify="left")
    for column in ("posts", "ended", "seconds", "posts/s", "worker's CPU, ms a post"):
        table.add_column(column, justify="right")
    for row in result.rows:
        rates = (f"{row.seconds:.1f}", f"{row.per_second:.1f}", f"{row.cpu_ms_a_post:.1f}")
        table.add_row(row.kind, row.worker, str(row.posts), str(row.ended), *rates)
    console.print(table)
