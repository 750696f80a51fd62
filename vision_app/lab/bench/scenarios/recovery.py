"""A restart of a worker with many open posts: its time, and the memory that each post takes.

The rows are copies of the row of a post that waits for its picture (`vision_app/lab/bench/rows.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from vision_app.lab.bench.laboratory import KILOBYTES, SECONDS, Laboratory
from vision_app.lab.bench.measure import OURS
from vision_app.lab.bench.rows import is_open, model_row, restart, write_rows
from vision_app.lab.soak.workers import WorkerProcess
from vision_app.stack.process import resident_bytes

NAME = "recovery"


async def run(laboratory: Laboratory, sizes: Sequence[int]) -> None:
    [worker] = await laboratory.workers(1)
    await laboratory.measure(1).new(OURS, worker)
    model, there = await model_row(laboratory, is_open), 0
    _, before = await _restarted(laboratory, worker)
    for size in sorted(sizes):
        laboratory.tell(f"writing {size - there:,} rows")
        await worker.terminate()
        await write_rows(laboratory.settings, model, there, size)
        there = size
        seconds, memory = await _restarted(laboratory, worker)
        at = f"{size:,} open posts"
        laboratory.note(NAME, f"{at}, restart", SECONDS, seconds)
        laboratory.note(NAME, f"{at}, memory of each", KILOBYTES, (memory - before) / 1000 / size)


async def _restarted(laboratory: Laboratory, worker: WorkerProcess) -> tuple[float, int]:
    """Seconds of a restart, and the bytes of the worker and its decoders afterwards."""
    await worker.terminate()
    seconds = await restart(laboratory, worker)
    await laboratory.idle(NAME)
    return seconds, resident_bytes(worker.pid or 0)
