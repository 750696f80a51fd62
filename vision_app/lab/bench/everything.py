"""Runs the chosen scenarios on fresh services, once for each repeat, and makes one result of them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vision_app.lab.soak.run import Tell
from vision_app.lab.soak.workers import WorkerLost
from vision_app.stack.errors import StackError

from .figures import FORMAT, Comparison, Figure, Row, Spread, rows_as_json, rows_of
from .laboratory import AT_ONCE, Laboratory, Wish
from .scenarios import SCENARIOS

REFERENCE_POSTS = 200
GOALS: dict[tuple[str, str], float] = {
    ("capacity", "new picture, CPU"): 14,
    ("capacity", "new picture, rate"): 60,
    ("capacity", "known picture, CPU"): 4,
    ("capacity", "known picture, rate"): 250,
    ("capacity", "skipped by policy, CPU"): 3,
    ("capacity", "skipped by policy, rate"): 400,
    ("capacity", "missing object, CPU"): 3,
    ("capacity", "missing object, rate"): 400,
    ("capacity", "duplicate, CPU"): 1,
    ("capacity", "duplicate, rate"): 1000,
    ("pace", "4 posts a second, p50"): 50,
    ("pace", "4 posts a second, p95"): 100,
    ("pace", "4 posts a second, CPU"): 20,
    ("provider", "3 workers, streams in use, as long as there is work for all"): 97,
    ("recovery", "100,000 open posts, restart"): 30,
    ("recovery", "100,000 open posts, memory of each"): 3,
}
"""Those of docs/performance.md."""


@dataclass
class Everything:
    """The figures of all repeats so far. `references_ms`: what the plain worker took for a new picture, in each."""

    wish: Wish
    repeats: list[Sequence[Figure]] = field(default_factory=list)
    references_ms: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all work ended. The figures are not judged."""
        return not self.faults

    @property
    def rows(self) -> list[Row]:
        return rows_of(self.repeats, self.references_ms, GOALS)


async def run_repeat(result: Everything, home: Path, variables: Mapping[str, str], tell: Tell) -> None:
    """Run all scenarios once, on the services in `variables`. Raises the errors of stores that are away.

    A worker that is lost is a fault of its scenario; the plain worker must not be lost (WorkerLost).
    """
    async with Laboratory.open(result.wish, home, variables, tell) as laboratory:
        posts = min(REFERENCE_POSTS, *(result.wish.sizes.get("capacity", [REFERENCE_POSTS])))
        async with laboratory.plain_worker() as process:
            laboratory.plain = await laboratory.measure(posts).new(f"plain, {AT_ONCE} at once", process)
        laboratory.expect("plain worker", laboratory.plain.ended, laboratory.plain.posts)
        for name, sizes in result.wish.sizes.items():
            tell(f"--- {name}")
            try:
                await SCENARIOS[name].run(laboratory, sizes)
            except (StackError, WorkerLost) as fault:  # the others' figures count all the same
                laboratory.faults.append(f"{name}: {fault}")
    result.repeats.append(laboratory.figures)
    result.references_ms.append(laboratory.plain.cpu_ms_a_post)
    result.faults += laboratory.faults


def as_json(result: Everything, comparison: Comparison | None) -> dict[str, Any]:
    """Everything about the run."""
    return {
        "format": FORMAT,
        "ok": result.ok,
        "faults": result.faults,
        "repeats": len(result.repeats),
        "sizes": {name: list(sizes) for name, sizes in result.wish.sizes.items()},
        "warm_up": result.wish.warm_up,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "plain_worker_ms_a_new_picture": asdict(Spread.of(result.references_ms)),
        "rows": rows_as_json(result.rows),
        "comparison": asdict(comparison) if comparison else None,
    }


def show(console: Console, result: Everything, comparison: Comparison | None) -> None:
    """One table, then what did not end, and what is worse than before."""
    repeats = len(result.repeats)
    title = f"{repeats} repeats: the median, and the smallest and largest" if repeats > 1 else "One repeat"
    table = Table("scenario", "figure", "unit", title=title, title_justify="left")
    for column in ("ours", *(["min..max"] if repeats > 1 else []), "plain", "ours / plain", "goal"):
        table.add_column(column, justify="right")
    scenario = ""
    for row in result.rows:
        if row.scenario != scenario and scenario:
            table.add_section()
        told, scenario = "" if row.scenario == scenario else row.scenario, row.scenario
        spread = [f"{_number(row.ours.min)}..{_number(row.ours.max)}"] if repeats > 1 else []
        plain = _number(row.plain.median) if row.plain else ""
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
        table.add_row(told, row.name, row.unit.name, _number(row.ours.median), *spread, plain, ratio, _goal(row))
    console.print(table)
    for fault in result.faults:
        console.print(f"[red]✗ {escape(fault)}[/]", highlight=False)
    if comparison:
        for line in comparison.left_out:
            console.print(f"not compared: {escape(line)}", highlight=False)
        for line in comparison.worse:
            console.print(f"[red]✗ {escape(line)}[/]", highlight=False)
        console.print(f"{comparison.compared} figures compared, {len(comparison.worse)} worse.", highlight=False)


def _number(value: float) -> str:
    if value and abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:,.1f}" if abs(value) < 1000 and value != round(value) else f"{value:,.0f}"


def _goal(row: Row) -> str:
    return "" if row.goal is None else f"{row.goal:g}{' ✓' if row.is_reached else ''}"
