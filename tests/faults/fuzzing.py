"""One run of the fuzzer at the whole system: hostile events among sound posts of other tenants, and how it ended.

Judged by the accountant (every event ended once, nothing overspent), by the worker (no restart, no stall, bounded
memory) and by the sound posts: each announced once, with its result. How long they waited is told beside how long they
waited before the hostile events came.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from redis.exceptions import RedisError

from tests.faults.load import Load
from tests.fuzz_entries import entries
from tests.integration.pipeline import Pipeline, Worker, picture
from vision_app.audit import Account, take_account
from vision_app.audit.figures import percentile
from vision_app.messages import Medium
from vision_app.operations.backlog import await_idle
from vision_app.operations.neighbours import Announced

SOUND_TENANTS = 3
SOUND_PER_SECOND = 2.0
PATIENCE_SECONDS = 900.0
LOOK_SECONDS = 1.0


@dataclass
class Fuzzed:
    """How a run ended. Times are seconds from Redis to Redis, sizes are bytes."""

    seed: int
    hostile: int
    account: Account
    left: str
    wrong: list[str]
    calm_p95: float
    mixed_p95: float
    most_resident: int
    seconds: float
    stalls: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        account = self.account
        return (
            f"seed {self.seed}: {self.hostile} hostile events in {self.seconds:.0f} s; {account.inputs} inputs, "
            f"{account.ended} ended ({account.dead_lettered} dead letters), {account.missing} missing, "
            f"{account.overspend} overspent; {len(self.stalls)} stalls; left: {self.left}; at most "
            f"{self.most_resident / 1e6:.0f} MB; sound p95 {self.calm_p95:.2f} s calm, {self.mixed_p95:.2f} s mixed"
        )


class Observer:
    """Looks at the worker once a second: what it says stands still, and how much memory it has."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.stalls: list[str] = []
        self.most_resident = 0

    @contextlib.asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._look_for_ever())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _look_for_ever(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=LOOK_SECONDS * 5) as client:
            while self._worker.alive:
                self.most_resident = max(self.most_resident, self._worker.resident_bytes)
                with contextlib.suppress(httpx.HTTPError):
                    answer = (await client.get(f"{self._worker.metrics_url}/readyz")).json()
                    self.stalls += [f"{stall['stage']} at {stall['place']}" for stall in answer.get("stalls", ())]
                await asyncio.sleep(LOOK_SECONDS)


async def fuzz(
    pipe: Pipeline, worker: Worker, *, seed: int, hostile: int, run: str, per_second: float | None = None
) -> Fuzzed:
    """A calm phase and a mixed one, until everything is worked off. The worker must be ready.

    `per_second`: how fast the hostile events come; None: as fast as Redis takes them, which is more than any worker can
    do, so that sound posts of that time wait behind a backlog and their waits say little.
    """
    started, since_ms, since = time.monotonic(), round(time.time() * 1000), await pipe.newest()
    media = [await pipe.upload(f"hostile-{run}", picture()) for _ in range(3)]
    observer = Observer(worker)
    async with observer.looking():
        calm = await _sound(pipe, f"calm-{run}", since, hostile / 50)
        sound = Load(pipe, f"sound-{run}", _tenants(run), SOUND_PER_SECOND, since)
        async with sound.running():
            await _publish(pipe, seed, hostile, media, run, per_second)
        await _announced(pipe, sound)
        left = await await_idle(pipe.redis, pipe.settings, time.monotonic() + PATIENCE_SECONDS)
    announced = await _announced(pipe, sound)  # with the post that was being published when the phase ended
    account = await take_account(pipe.settings, since_ms=since_ms)
    wrong = [*account.discrepancies, *_unlike_sound(sound, announced)]
    wrong += [f"{stall} stood still" for stall in dict.fromkeys(observer.stalls)]
    if not worker.alive:
        wrong.append("the worker ended")
    return Fuzzed(
        seed=seed,
        hostile=hostile,
        account=account,
        left=str(left),
        wrong=wrong,
        calm_p95=calm,
        mixed_p95=_p95(sound, announced),
        most_resident=observer.most_resident,
        seconds=time.monotonic() - started,
        stalls=observer.stalls,
    )


def _tenants(run: str) -> list[str]:
    return [f"sound-{run}-{number}" for number in range(SOUND_TENANTS)]


async def _sound(pipe: Pipeline, tag: str, since: str, seconds: float) -> float:
    """Sound posts alone; returns their p95."""
    calm = Load(pipe, tag, _tenants(tag), SOUND_PER_SECOND, since)
    async with calm.running():
        await asyncio.sleep(max(5.0, min(seconds, 60.0)))
    await await_idle(pipe.redis, pipe.settings, time.monotonic() + PATIENCE_SECONDS)
    return _p95(calm, await _announced(pipe, calm))


async def _publish(
    pipe: Pipeline, seed: int, hostile: int, media: Sequence[Medium], run: str, per_second: float | None
) -> None:
    started = time.monotonic()
    for number, fields in enumerate(entries(seed, hostile, media, run)):
        stream = pipe.settings.input_streams[number % len(pipe.settings.input_streams)]
        with contextlib.suppress(RedisError):  # what Redis itself does not take has never entered
            given: Any = dict(fields)  # invariant in redis-py's own types
            await pipe.redis.xadd(stream, given)
        due = started + (number + 1) / per_second if per_second else 0.0
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _announced(pipe: Pipeline, load: Load) -> dict[str, list[Announced]]:
    posts = [one.post for one in load.published]
    await pipe.announced(posts, load.since, seconds=PATIENCE_SECONDS)
    return await pipe.all_announced(posts, load.since)


def _p95(load: Load, announced: dict[str, list[Announced]]) -> float:
    return percentile([(announced[one.post][0].at_ms - one.at_ms) / 1000 for one in load.published], 0.95)


def _unlike_sound(load: Load, announced: dict[str, list[Announced]]) -> list[str]:
    return [
        f"{one.post} was announced as {[event.event_type for event in announced[one.post]]}"
        for one in load.published
        if [event.event_type for event in announced[one.post]] != ["posts.vision.analyzed"]
    ]
