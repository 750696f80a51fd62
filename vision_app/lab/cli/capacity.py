"""`vision bench capacity`: what one worker can take, beside a plain one.

The work is in `vision_app.lab.bench.capacity`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from vision_app.lab.bench.capacity import CapacityOptions, as_json, capacity, show
from vision_app.lab.bench.profiler import Profiler
from vision_app.lab.cli.own_services import finish, on_own_services, result_console
from vision_app.lab.cli.profiles import profile_option, show_profiles
from vision_app.settings import vision_home

EXIT_FAILED = 1


@click.command(name="capacity")
@click.option("--posts", type=click.IntRange(min=10), default=400, show_default=True, help="Of each kind, at once.")
@click.option("--warm-up", type=click.IntRange(min=0), default=50, show_default=True, help="Posts before, not counted.")
@click.option("--plain/--no-plain", default=True, help="Measure the plain worker, too.")
@profile_option
@click.option("--keep", is_flag=True, help="Keep the run's folder (logs and data).")
@click.option("--json", "machine_readable", is_flag=True, help="One JSON document on stdout; progress goes to stderr.")
def capacity_command(
    posts: int, warm_up: int, plain: bool, profile: Path | None, keep: bool, machine_readable: bool
) -> None:
    """Publish posts of each kind at once and measure posts a second and processor time.

    The kinds: new pictures, known ones, skipped by policy, missing objects, duplicates, albums. Beside our worker runs
    a plain one, without any of our promises, on the same services. GigaChat is simulated and answers at once. Exit code
    0 only if every post ended.
    """
    console = result_console(machine_readable=machine_readable)
    home = vision_home() / "bench" / str(int(time.time()))
    profiler = Profiler(profile)
    wish = CapacityOptions(home, posts, warm_up, (1, 10) if plain else (), profiler)
    result = on_own_services(console, home, lambda variables, tell: capacity(wish, variables, tell))
    show(console, result)
    document = {**as_json(result), **show_profiles(console, profiler)}
    finish(console, home, document, machine_readable=machine_readable, keep=keep or not result.ok)
    sys.exit(0 if result.ok else EXIT_FAILED)
