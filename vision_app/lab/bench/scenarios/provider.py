"""The provider is the bottleneck: its answers take 3 s, and it answers so many at once. With 1 and 3 workers, and with
3 of which one is killed in the middle.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise

from vision_app.audit.bill_reader import read_bill
from vision_app.audit.scope import Scope
from vision_app.lab.bench.laboratory import COUNT, PER_CENT, PROVIDER_SECONDS, Laboratory
from vision_app.lab.bench.streams_in_use import billed_again, sampled
from vision_app.lab.soak.workers import WorkerProcess
from vision_app.operations.neighbours import Announced

NAME = "provider"
ANSWER_SECONDS = 3.0
CASES = (("3 workers", 3, False), ("3 workers, one killed", 3, True), ("1 worker", 1, False))


async def run(laboratory: Laboratory, sizes: Sequence[int]) -> None:
    try:
        for name, count, kill in CASES:
            workers = await laboratory.workers(count)
            await laboratory.provider_answers_after(ANSWER_SECONDS)
            await _case(laboratory, name, sizes[0], workers[-1] if kill else None)
            await laboratory.provider_answers_after(0)
    finally:
        await laboratory.provider_answers_after(0)


async def _case(laboratory: Laboratory, name: str, pictures: int, victim: WorkerProcess | None) -> None:
    measure, settings = laboratory.measure(0), laboratory.settings
    events = measure.events("slow", await measure.pictures(pictures))
    laboratory.tell(f"{name}: {pictures} new pictures, each answer takes {ANSWER_SECONDS:g} s")
    announced, half = [0], asyncio.Event()
    streams_there, emptied_at = settings.vision_provider_streams, list[float]()

    def count(_: Announced) -> None:
        announced[0] += 1
        if announced[0] == pictures - streams_there:
            emptied_at.append(time.monotonic())
        if announced[0] * 2 >= pictures:
            half.set()

    since_ms = int(time.time() * 1000)
    killing = asyncio.create_task(_kill_at(half, victim, laboratory)) if victim else None
    async with sampled(settings) as streams:
        published = await measure.publish(events, on_event=count)
        ended = time.monotonic()
        used = streams.share(streams_there, ended)
        used_before = streams.share(streams_there, emptied_at[0] if emptied_at else ended)
    if killing:
        half.set()
        await killing
    await laboratory.idle(f"{NAME}, {name}")
    laboratory.expect(f"{NAME}, {name}", len(published.announced), pictures)
    if not published.announced:
        return
    at_ms = sorted(event.at_ms for event in published.announced.values())
    silence = max((after - before for before, after in pairwise(at_ms)), default=0)
    bill = await read_bill(settings, Scope(since_ms, int(time.time() * 1000))) or []
    laboratory.note(NAME, f"{name}, streams in use", PER_CENT, 100 * used)
    laboratory.note(NAME, f"{name}, streams in use, as long as there is work for all", PER_CENT, 100 * used_before)
    laboratory.note(NAME, f"{name}, longest wait", PROVIDER_SECONDS, max(published.waits_ms) / 1000)
    laboratory.note(NAME, f"{name}, longest silence", PROVIDER_SECONDS, silence / 1000)
    laboratory.note(
        NAME, f"{name}, calls billed twice", COUNT, billed_again([call for call in bill if call.at_ms >= since_ms])
    )


async def _kill_at(half: asyncio.Event, victim: WorkerProcess, laboratory: Laboratory) -> None:
    await half.wait()
    laboratory.tell(f"SIGKILL of {victim.name}")
    await victim.kill()
