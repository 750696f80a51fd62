"""What every scenario of `vision bench all` uses: services, running workers, the plain worker, a place for faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from vision_app.lab.soak.operator import Operator
from vision_app.lab.soak.run import Tell
from vision_app.lab.soak.workers import WorkerProcess
from vision_app.operations.backlog import await_idle
from vision_app.settings import Settings, load_settings
from vision_app.stores.s3 import S3Store

from .capacity import ENVIRONMENT
from .figures import Figure, Unit
from .measure import Capacity, Measure, Runner, patience, redis_and_bucket
from .plain import plain_worker, read_from_now
from .profiler import Profiler

MS_A_POST = Unit("ms a post", "less", "time")
MS = Unit("ms", "less", "time")
SECONDS = Unit("s", "less", "time")
PROVIDER_SECONDS = Unit("s", "less", "fixed")
PER_SECOND = Unit("/s", "more", "rate")
PER_CENT = Unit("%", "more", "fixed")
MEGABYTES = Unit("MB", "less", "fixed")
KILOBYTES = Unit("kB", "less", "fixed")
COUNT = Unit("", None, "fixed")

AT_ONCE = 10
"""Posts that the plain worker takes at once."""


@dataclass(frozen=True)
class Wish:
    """What to measure: scenarios with their sizes, in order. `warm_up`: posts before a measurement, not counted.

    `profiler`: samples our worker meanwhile.
    """

    sizes: Mapping[str, Sequence[int]]
    warm_up: int
    profiler: Profiler = field(default_factory=Profiler)


@dataclass
class Laboratory:
    """One repeat. `faults`: sentences about work that did not end; then the figures count for nothing.

    `plain`: the plain worker with new pictures; the first measurement of each repeat.
    """

    wish: Wish
    home: Path
    variables: Mapping[str, str]
    settings: Settings
    redis: Redis
    s3: S3Store
    tell: Tell
    figures: list[Figure] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    plain: Capacity | None = None
    _workers: list[WorkerProcess] = field(default_factory=list)
    _taken_ports: set[int] = field(default_factory=set)
    _first_run: int = field(default_factory=lambda: int(time.time()) % 1_000_000)
    _runs: int = 0

    @classmethod
    @asynccontextmanager
    async def open(cls, wish: Wish, home: Path, variables: Mapping[str, str], tell: Tell) -> AsyncIterator[Laboratory]:
        """On the services in `variables`. Ends the workers at the end."""
        settings = load_settings(**{name.lower(): value for name, value in variables.items()})
        await asyncio.to_thread((home / "logs").mkdir, parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            redis, s3 = await stack.enter_async_context(redis_and_bucket(settings))
            laboratory = cls(wish, home, variables, settings, redis, s3, tell)
            stack.push_async_callback(laboratory._kill_workers)
            yield laboratory

    def note(self, scenario: str, name: str, unit: Unit, value: float, plain: float | None = None) -> None:
        """Add a figure."""
        self.figures.append(Figure(scenario, name, unit, round(value, 3), None if plain is None else round(plain, 3)))

    def expect(self, what: str, ended: int, posts: int) -> None:
        """Work that did not end is a fault of the run."""
        if ended != posts:
            self.faults.append(f"{what}: {ended} of {posts} ended")

    def beside(self, kind: str) -> tuple[float | None, float | None]:
        """The plain worker's milliseconds a post and posts a second, of the kind that it was measured with."""
        if self.plain is None or kind != self.plain.kind:
            return None, None
        return self.plain.cpu_ms_a_post, self.plain.per_second

    # --- posts

    def measure(self, posts: int, profile: str | None = None) -> Measure:
        """Posts of tenants that nobody has seen. `profile`: the group of the profiles, or None for no profiles."""
        self._runs += 1
        profiler = self.wish.profiler.of(profile) if profile else Profiler()
        run = f"c{self._first_run + self._runs}"
        return Measure(self.settings, self.redis, self.s3, run, self.tell, posts, self.wish.warm_up, profiler)

    async def provider_answers_after(self, seconds: float) -> None:
        """The simulator's answers take so long from now on; the other requests take no time."""
        rules: list[dict[str, Any]] = [{"endpoint": "chat", "fault": {"kind": "latency", "seconds": seconds}}]
        await Operator(self.settings, []).provider_rules(rules if seconds else [])

    async def idle(self, what: str, posts: int = 0) -> None:
        """Wait until nothing is left to do of so many posts."""
        left = await await_idle(self.redis, self.settings, patience(posts))
        if left:
            self.faults.append(f"{what}: not worked off: {left}")

    # --- workers

    async def workers(self, count: int) -> list[WorkerProcess]:
        """Let exactly workers 1 to `count` run, and wait until they are ready and have nothing to do."""
        if not any(worker.is_running for worker in self._workers):
            await read_from_now(self.redis, self.settings, self.settings.vision_consumer_group)
        while len(self._workers) < count:
            number = len(self._workers) + 1
            environment = {**self.variables, **ENVIRONMENT}
            self._workers.append(WorkerProcess(number, environment, self.home / "logs", self._taken_ports))
        await asyncio.gather(*(worker.terminate() for worker in self._workers[count:] if worker.is_running))
        chosen = self._workers[:count]
        if not all(worker.is_running for worker in chosen):
            self.tell(f"starting {count} of our workers")
            for worker in chosen:
                await worker.start()
        await asyncio.gather(*(worker.ready() for worker in chosen))
        if chosen:
            await self.idle(f"{count} workers")
        return chosen

    @asynccontextmanager
    async def plain_worker(self, at_once: int = AT_ONCE) -> AsyncIterator[Runner]:
        """A plain worker alone: ours are ended before."""
        await self.workers(0)
        await read_from_now(self.redis, self.settings)
        async with plain_worker(self.home / "logs", {**self.variables, **ENVIRONMENT}, at_once) as process:
            yield process

    async def _kill_workers(self) -> None:
        await asyncio.gather(*(worker.kill() for worker in self._workers))
