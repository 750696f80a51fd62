"""Added latency: new pictures at an even pace while the provider takes no time, from XADD to XADD."""

from __future__ import annotations

from collections.abc import Sequence

from vision_app.audit.figures import percentile
from vision_app.lab.bench.laboratory import MS, MS_A_POST, Laboratory
from vision_app.lab.bench.measure import OURS, Event, Measure, Published, Runner, cpu_seconds
from vision_app.lab.bench.profiler import Profiler

NAME = "pace"
RATES = (4, 9)
"""Posts a second."""


async def run(laboratory: Laboratory, sizes: Sequence[int]) -> None:
    [seconds] = sizes
    async with laboratory.plain_worker() as process:
        plain = [await _paced(laboratory, "plain", process, rate, seconds) for rate in RATES]
    [worker] = await laboratory.workers(1)
    for rate, (plain_waits, plain_cpu_ms) in zip(RATES, plain, strict=True):
        waits, cpu_ms = await _paced(laboratory, OURS, worker, rate, seconds)
        for name, share in (("p50", 0.5), ("p95", 0.95)):
            value, beside = percentile(waits, share), percentile(plain_waits, share)
            laboratory.note(NAME, f"{rate} posts a second, {name}", MS, value, beside)
        laboratory.note(NAME, f"{rate} posts a second, CPU", MS_A_POST, cpu_ms, plain_cpu_ms)


async def _paced(
    laboratory: Laboratory, name: str, process: Runner, rate: int, seconds: float
) -> tuple[list[int], float]:
    """The milliseconds of each post, and the processor time of one."""
    measure = laboratory.measure(0)
    count, warm_up = max(1, round(rate * seconds)), laboratory.wish.warm_up
    laboratory.tell(f"{name}: {count} new pictures, {rate} a second")
    events = measure.events("paced", await measure.pictures(count))
    await _publish(measure, measure.events("warm", await measure.pictures(warm_up)), rate)
    profiler = laboratory.wish.profiler.of(NAME) if name == OURS else Profiler()
    async with profiler.profiled(f"{rate} a second", process.pid, count):
        busy = cpu_seconds(process)
        published = await _publish(measure, events, rate)
        if name == OURS:
            await laboratory.idle(NAME)
        cpu_ms = (cpu_seconds(process) - busy) * 1000 / count
    laboratory.expect(f"{NAME}, {name}, {rate} posts a second", len(published.announced), count)
    return published.waits_ms, cpu_ms


async def _publish(measure: Measure, events: Sequence[Event], rate: int) -> Published:
    return await measure.publish(events, len(events) / rate)
