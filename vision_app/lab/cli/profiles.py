"""The option `--profile` of the benchmarks, and the table that it adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from vision_app.lab.bench.profile_report import as_json, show
from vision_app.lab.bench.profiler import Profiler

profile_option = click.option(
    "--profile",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder for the stacks of each measurement, sampled by py-spy; a table sums them up.",
)


def show_profiles(console: Console, profiler: Profiler) -> dict[str, Any]:
    """Show where the interpreter's time went. Returns what the JSON document says about it: nothing if not asked."""
    if profiler.folder is None:
        return {}
    show(console, profiler.found)
    return {"profiles": as_json(profiler.found)}
