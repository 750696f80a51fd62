"""Posts of each kind published at once: processor time and rate, new pictures beside the plain worker."""

from __future__ import annotations

from collections.abc import Sequence

from vision_app.lab.bench.capacity import other_kinds
from vision_app.lab.bench.laboratory import MS_A_POST, PER_SECOND, Laboratory
from vision_app.lab.bench.measure import ALBUM, OURS

NAME = "capacity"
ALBUM_KIND = "album of ten"


async def run(laboratory: Laboratory, sizes: Sequence[int]) -> None:
    measure = laboratory.measure(sizes[0], NAME)
    [ours] = await laboratory.workers(1)
    rows = [await measure.new(OURS, ours), *await other_kinds(measure, ours)]
    for row in rows:
        plain_cpu_ms, plain_rate = laboratory.beside(row.kind)
        pictures = ALBUM if row.kind == ALBUM_KIND else 1
        cpu_ms, rate = row.cpu_ms_a_post / pictures, row.per_second * pictures
        laboratory.note(NAME, f"{row.kind}, CPU", MS_A_POST, cpu_ms, plain_cpu_ms)
        laboratory.note(NAME, f"{row.kind}, rate", PER_SECOND, rate, plain_rate)
        laboratory.expect(f"{NAME}, {row.kind}", row.ended, row.posts)
