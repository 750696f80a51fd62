"""The profiles of a run as a table, and as JSON-ready data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from .profile_parts import PARTS, Profile, merge_repeats

TITLE = "Where the interpreter's time goes: per cent of the samples that hold it; below, ms of a post's processor time"


def as_json(profiles: Sequence[Profile]) -> dict[str, Any]:
    """Name → samples, processor time, and both for each part."""
    return {
        one.name: {
            "samples": one.all_samples,
            "cpu_ms_a_post": _rounded(one.cpu_ms_a_post),
            "parts": {
                part: {"share": round(one.share(part), 4), "ms_a_post": _rounded(one.ms_a_post(part))} for part in PARTS
            },
        }
        for one in merge_repeats(profiles)
    }


def show(console: Console, profiles: Sequence[Profile]) -> None:
    """A row for each measurement."""
    table = Table(title=TITLE, title_justify="left", show_lines=True)
    table.add_column("profile", no_wrap=True)
    for part in ("samples", *PARTS):
        table.add_column(part, justify="right", overflow="fold")
    for one in merge_repeats(profiles):
        whole = _cell(f"{one.all_samples:,}", one.cpu_ms_a_post)
        parts = [_cell(f"{100 * one.share(part):.1f}", one.ms_a_post(part)) for part in PARTS]
        table.add_row(one.name.replace(": ", ":\n"), whole, *(parts if one.all_samples else []))
    console.print(table)


def _cell(upper: str, ms: float | None) -> str:
    return upper if ms is None else f"{upper}\n{ms:.2f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
