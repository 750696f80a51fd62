"""A worker with many posts in its tables: processor time of a new picture, memory, and the time of a restart.

The tables are filled with posts that the policy skips: their rows are as large as those of others, and made quickly.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from vision_app.clients.postgres import postgres_connection
from vision_app.lab.bench.laboratory import MEGABYTES, MS_A_POST, SECONDS, Laboratory
from vision_app.lab.bench.measure import OURS, Measure
from vision_app.lab.soak.workers import WorkerProcess
from vision_app.stack.process import resident_bytes

NAME = "growth"
MEASURED_POSTS = 100
MEASURED_PART = 10  # of small tables, so that the measured posts do not fill them
FILLED_AT_ONCE = 1000


async def run(laboratory: Laboratory, sizes: Sequence[int]) -> None:
    for size in sorted(sizes):
        [worker] = await laboratory.workers(1)
        measure = laboratory.measure(min(MEASURED_POSTS, max(1, size // MEASURED_PART)), f"{NAME}-{size}")
        there = await _posts(laboratory)
        if there > size:
            laboratory.faults.append(
                f"{NAME}: there are {there:,} posts of other scenarios, more than {size:,}; measure it alone: "
                f"vision bench all --scenario {NAME} --size {NAME}={size}"
            )
            continue
        await _fill(laboratory, measure, size - there)
        row = await measure.new(OURS, worker)
        laboratory.expect(f"{NAME}, {size} posts", row.ended, row.posts)
        at = f"at {size:,} posts"
        laboratory.note(
            NAME, f"{at}, CPU of a new picture", MS_A_POST, row.cpu_ms_a_post, laboratory.beside(row.kind)[0]
        )
        laboratory.note(NAME, f"{at}, memory", MEGABYTES, resident_bytes(worker.pid or 0) / 1e6)
        laboratory.note(NAME, f"{at}, restart", SECONDS, await _restart(laboratory, worker))


async def _fill(laboratory: Laboratory, measure: Measure, missing: int) -> None:
    laboratory.tell(f"{missing} posts that the policy skips")
    for first in range(0, missing, FILLED_AT_ONCE):
        count = min(FILLED_AT_ONCE, missing - first)
        published = await measure.publish(measure.skipped_events(count))
        laboratory.expect(f"{NAME}, posts that the policy skips", len(published.announced), count)
    await laboratory.idle(NAME)


async def _posts(laboratory: Laboratory) -> int:
    """The posts of which there is a row. The worker's table has them for a day."""
    connection = await postgres_connection(laboratory.settings, application="vision-bench")
    try:
        return int(await connection.fetchval("SELECT count(*) FROM post_enrichment WHERE kind = 'vision'"))
    finally:
        await connection.close()


async def _restart(laboratory: Laboratory, worker: WorkerProcess) -> float:
    """Seconds from the start of the process until it is ready, its tables recovered."""
    laboratory.tell("restarting the worker")
    await worker.terminate()
    started = time.monotonic()
    await worker.start()
    await worker.ready()
    return time.monotonic() - started
