"""What one worker can take, and what it costs: posts of each kind published at once, ours beside a plain worker.

The provider answers at once, so that only the work around it is measured. Both workers run on the same services, one
after the other, with posts of the same shape.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vision_app.lab.soak.run import Tell
from vision_app.lab.soak.workers import WorkerProcess
from vision_app.settings import load_settings

from .measure import OURS, Capacity, Measure, redis_and_bucket
from .plain import plain_worker, read_from_now
from .profiler import Profiler

ENVIRONMENT = {"VISION_MAX_DAILY_TOKENS": "1000000000"}


@dataclass(frozen=True)
class CapacityOptions:
    """`posts` of each kind at once; the first `warm_up` of new pictures are not counted. `home`: the run's folder.

    `profiler`: samples our worker while it does a kind.
    """

    home: Path
    posts: int
    warm_up: int
    plain_at_once: Sequence[int] = (1, 10)
    profiler: Profiler = field(default_factory=Profiler)


@dataclass
class CapacityResult:
    rows: list[Capacity] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every post ended. The times are not judged."""
        return all(row.ended == row.posts for row in self.rows)


async def capacity(wish: CapacityOptions, variables: Mapping[str, str], tell: Tell) -> CapacityResult:
    """Run against the services in `variables`. Raises WorkerLost, and the errors of stores that are away."""
    settings = load_settings(**{name.lower(): value for name, value in variables.items()})
    environment = {**variables, **ENVIRONMENT}
    result, logs = CapacityResult(), wish.home / "logs"
    await asyncio.to_thread(logs.mkdir, parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        redis, s3 = await stack.enter_async_context(redis_and_bucket(settings))
        run = f"c{int(time.time()) % 1_000_000}"
        measure = Measure(settings, redis, s3, run, tell, wish.posts, wish.warm_up, wish.profiler)
        for at_once in wish.plain_at_once:
            async with plain_worker(logs, environment, at_once) as plain:
                result.rows.append(await measure.new(f"plain, {at_once} at once", plain))
        await read_from_now(redis, settings, settings.vision_consumer_group)
        ours = WorkerProcess(1, environment, logs, set())
        stack.push_async_callback(ours.kill)
        await ours.start()
        await ours.ready()
        result.rows.append(await measure.new(OURS, ours))
        result.rows += await other_kinds(measure, ours)
    return result


async def other_kinds(measure: Measure, ours: WorkerProcess) -> list[Capacity]:
    """Posts of each kind but new pictures, which must have been measured before."""
    kinds = (measure.known, measure.skipped, measure.missing, measure.duplicates, measure.albums)
    return [await kind(ours) for kind in kinds]


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
