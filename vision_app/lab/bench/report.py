"""The result of a benchmark as a table, and as JSON-ready data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .run import BenchResult, Phase

COLUMNS = ("posts", "p50, ms", "p95, ms", "p99, ms", "longest, ms", "worker's CPU, ms a post")


def as_json(result: BenchResult) -> dict[str, Any]:
    """Everything about a run."""
    return {"ok": result.ok, "ratio": result.ratio, **asdict(result), "wish": _wish(result)}


def _wish(result: BenchResult) -> dict[str, Any]:
    return {**asdict(result.wish), "home": str(result.wish.home)}


def show(console: Console, result: BenchResult) -> None:
    """A table of the phases, then the time between stages, and the flood."""
    wish = result.wish
    title = f"{wish.rate:g} posts a second of {wish.tenants} tenants, from publishing to the event"
    table = Table("phase", title=title, title_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for phase in result.phases:
        table.add_row(phase.name, *_cells(phase))
    console.print(table)
    for phase in result.phases:
        stages = ", ".join(f"{gap} {ms:.0f}" for gap, ms in phase.stages.items())
        console.print(f"{phase.name}, median milliseconds of each stage: {stages}", highlight=False)
    if wish.flood:
        console.print(
            f"The p95 under flood is {result.ratio} times the calm one. Of {wish.flood} posts of the flood "
            f"{result.flood_early} had been announced by then, {result.flood_announced} after "
            f"{result.flood_seconds:.0f} s.",
            highlight=False,
        )
    if wish.viewers:
        console.print(
            f"{wish.viewers} people had the page open: {result.views} documents, {result.views_failed} failed.",
            highlight=False,
        )
    for line in _faults(result):
        console.print(f"[red]✗ {escape(line)}[/]")


def _cells(phase: Phase) -> list[str]:
    waits = (phase.p50, phase.p95, phase.p99, phase.longest)
    return [str(phase.posts), *(f"{wait:,.0f}" for wait in waits), f"{phase.cpu_ms:.1f}"]


def _faults(result: BenchResult) -> list[str]:
    missing = [
        f"{name}: {posts - announced} posts were not analyzed"
        for name, posts, announced in [
            *((phase.name, phase.posts, phase.announced) for phase in result.phases),
            ("flood", result.wish.flood, result.flood_announced),
        ]
        if announced < posts
    ]
    return [*missing, *([f"not worked off: {result.left}"] if result.left else [])]
