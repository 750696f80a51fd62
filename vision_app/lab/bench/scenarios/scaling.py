"""One, two and three workers: posts with a new picture each, published at once."""

from __future__ import annotations

from collections.abc import Sequence

from vision_app.lab.bench.laboratory import MS_A_POST, PER_SECOND, Laboratory
from vision_app.lab.bench.measure import OURS

NAME = "scaling"
WORKERS = (1, 2, 3)


async def run(laboratory: Laboratory, sizes: Sequence[int]) -> None:
    for count in WORKERS:
        workers = await laboratory.workers(count)
        name = f"{count} worker{'s' if count > 1 else ''}"
        row = await laboratory.measure(sizes[0], f"{NAME}-{count}").new(OURS, *workers)
        plain_cpu_ms, plain_rate = laboratory.beside(row.kind)
        laboratory.note(NAME, f"{name}, rate", PER_SECOND, row.per_second, plain_rate)
        laboratory.note(NAME, f"{name}, CPU", MS_A_POST, row.cpu_ms_a_post, plain_cpu_ms)
        laboratory.expect(f"{NAME}, {name}", row.ended, row.posts)
