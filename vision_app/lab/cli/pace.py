"""`vision bench pace`: how long posts take, also while one tenant floods. The work is in `vision_app.lab.bench`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from vision_app.lab.bench.plan import BenchOptions
from vision_app.lab.bench.profiler import Profiler
from vision_app.lab.bench.report import as_json, show
from vision_app.lab.bench.run import bench
from vision_app.lab.cli.own_services import finish, on_own_services, result_console, run_options
from vision_app.lab.cli.profiles import profile_option, show_profiles
from vision_app.settings import vision_home

EXIT_FAILED = 1
SECONDS = click.FloatRange(min=0)


@click.command(name="pace")
@click.option("--seconds", type=click.FloatRange(min=1), default=60, show_default=True, help="Measured, per phase.")
@click.option("--warm-up", type=SECONDS, default=20, show_default=True, help="Seconds of the same load, not counted.")
@click.option("--tenants", type=click.IntRange(min=1), default=9, show_default=True)
@click.option("--rate", type=click.FloatRange(min=0.1), default=9, show_default=True, help="Posts a second, together.")
@click.option(
    "--flood", type=click.IntRange(min=0), default=0, show_default=True, help="Posts of one more tenant, at once."
)
@click.option(
    "--answers", type=(SECONDS, SECONDS), default=(0.2, 0.6), show_default=True, help="The provider's, in seconds."
)
@click.option("--viewers", type=click.IntRange(min=0), default=0, show_default=True, help="With the page open.")
@click.option("--max-ratio", type=click.FloatRange(min=1), help="Of the p95 under flood to the calm one.")
@profile_option
@run_options(workers=1)
def pace_command(
    seconds: float,
    warm_up: float,
    tenants: int,
    rate: float,
    flood: int,
    workers: int,
    answers: tuple[float, float],
    viewers: int,
    max_ratio: float | None,
    profile: Path | None,
    keep: bool,
    machine_readable: bool,
) -> None:
    """Publish posts with new pictures at an even pace and measure how long each takes until it is announced.

    With --flood it measures once more after another tenant has published many posts at once. Runs on its own services
    beside those of `vision up`; GigaChat is simulated. Exit code 0 only if every post was analyzed and announced, and
    the p95 under flood is at most --max-ratio times the calm one.
    """
    if answers[0] > answers[1]:
        raise click.BadParameter("the shortest first, then the longest", param_hint="--answers")
    if max_ratio is not None and not flood:
        raise click.BadParameter("there is nothing to compare without --flood", param_hint="--max-ratio")
    console = result_console(machine_readable=machine_readable)
    home = vision_home() / "bench" / str(int(time.time()))
    profiler = Profiler(profile)
    wish = BenchOptions(home, seconds, warm_up, tenants, rate, flood, workers, answers, viewers)
    result = on_own_services(console, home, lambda variables, tell: bench(wish, variables, tell, profiler))
    show(console, result)
    document = {**as_json(result), **show_profiles(console, profiler)}
    finish(console, home, document, machine_readable=machine_readable, keep=keep or not result.ok)
    slow = max_ratio is not None and result.ratio is not None and result.ratio > max_ratio
    if slow:
        console.print(f"[red]✗ more than {max_ratio:g} times the calm p95[/]")
    sys.exit(0 if result.ok and not slow else EXIT_FAILED)
