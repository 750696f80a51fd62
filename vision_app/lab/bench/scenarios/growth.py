"""A worker with many posts in its tables: the time of a restart, memory, and processor time of a new picture.

The rows are copies of the row of a post that was analyzed (`vision_app/lab/bench/rows.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from vision_app.clients.postgres import postgres_connection
from vision_app.lab.bench.laboratory import MEGABYTES, MS_A_POST, SECONDS, Laboratory
from vision_app.lab.bench.measure import OURS
from vision_app.lab.bench.rows import Model, is_analyzed, model_row, restart, write_rows
from vision_app.lab.soak.workers import WorkerProcess
from vision_app.stack.process import resident_bytes

NAME = "growth"
MEASURED_POSTS = 200
MEASURED_PART = 10  # of small tables, so that the measured posts do not fill them


async def run(laboratory: Laboratory, sizes: Sequence[int]) -> None:
    [worker] = await laboratory.workers(1)
    measured = laboratory.measure(1)
    await measured.new(OURS, worker)
    model, there = await model_row(laboratory, is_analyzed), await _posts(laboratory)
    for size in sorted(sizes):
        if there > size:
            laboratory.faults.append(
                f"{NAME}: there are {there:,} posts of other scenarios, more than {size:,}; measure it alone: "
                f"vision bench all --scenario {NAME} --size {NAME}={size}"
            )
            continue
        await _measure(laboratory, worker, size, model, there)
        there = size + await _posts(laboratory) - there


async def _measure(laboratory: Laboratory, worker: WorkerProcess, size: int, model: Model, there: int) -> None:
    at = f"at {size:,} posts"
    await worker.terminate()
    laboratory.tell(f"writing {size - there:,} rows")
    await write_rows(laboratory.settings, model, there, size)
    laboratory.note(NAME, f"{at}, restart", SECONDS, await restart(laboratory, worker))
    await laboratory.idle(NAME)
    laboratory.note(NAME, f"{at}, memory", MEGABYTES, resident_bytes(worker.pid or 0) / 1e6)
    measure = laboratory.measure(min(MEASURED_POSTS, max(1, size // MEASURED_PART)), f"{NAME}-{size}")
    row = await measure.new(OURS, worker)
    laboratory.expect(f"{NAME}, {size} posts", row.ended, row.posts)
    laboratory.note(NAME, f"{at}, CPU of a new picture", MS_A_POST, row.cpu_ms_a_post, laboratory.beside(row.kind)[0])


async def _posts(laboratory: Laboratory) -> int:
    """The posts that the worker has handled. Its table has them for a day."""
    connection = await postgres_connection(laboratory.settings, application="vision-bench")
    try:
        return int(await connection.fetchval("SELECT count(*) FROM post_enrichment WHERE kind = 'vision'"))
    finally:
        await connection.close()
