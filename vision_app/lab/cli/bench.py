"""`vision bench all|pace|capacity`: how fast it is. The work is in `vision_app.lab.bench`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import click

from vision_app.lab.bench.everything import Everything, as_json, run_repeat, show
from vision_app.lab.bench.figures import Comparison, Earlier, NotABenchmark, compare, read_earlier
from vision_app.lab.bench.laboratory import Wish
from vision_app.lab.bench.profiler import Profiler
from vision_app.lab.bench.scenarios import SCENARIOS
from vision_app.lab.cli.capacity import capacity_command
from vision_app.lab.cli.own_services import finish, on_own_services, result_console
from vision_app.lab.cli.pace import pace_command
from vision_app.lab.cli.profiles import profile_option, show_profiles
from vision_app.settings import vision_home

EXIT_FAILED = 1


@click.group(name="bench")
def bench_group() -> None:
    """Measure how fast it is: everything with one command, or one thing with all its options.

    Each command runs on its own services beside those of `vision up`; GigaChat is simulated.
    """


class SizeOf(click.ParamType):
    """`SCENARIO=N` or, where a scenario has several sizes, `SCENARIO=N,N`."""

    name = "SCENARIO=N"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        scenario, _, text = value.partition("=")
        sizes = tuple(int(one) if one.isdecimal() else 0 for one in text.split(","))
        if scenario not in SCENARIOS:
            self.fail(f"{scenario!r} is no scenario; there are {', '.join(SCENARIOS)}", param, ctx)
        if not all(sizes):
            self.fail(f"{text!r} is no size; give positive whole numbers, for example {scenario}=100", param, ctx)
        if len(sizes) > 1 and len(SCENARIOS[scenario].sizes) == 1:
            self.fail(f"{scenario} has one size: {SCENARIOS[scenario].size_of}", param, ctx)
        return scenario, sizes


def _read(_: click.Context, parameter: click.Parameter, file: Path | None) -> Earlier | None:
    try:
        return None if file is None else read_earlier(file)
    except (NotABenchmark, OSError) as fault:
        raise click.BadParameter(str(fault), param=parameter) from None


@bench_group.command(name="all")
@click.option(
    "--scenario", "names", multiple=True, type=click.Choice(list(SCENARIOS)), help="Only this; may be repeated."
)
@click.option("--size", "wished", multiple=True, type=SizeOf(), help="Of a scenario, for example growth=1000,100000.")
@click.option("--repeats", type=click.IntRange(min=1), default=1, show_default=True, help="Each on fresh services.")
@click.option("--warm-up", type=click.IntRange(min=0), default=50, show_default=True, help="Posts before, not counted.")
@profile_option
@click.option(
    "--compare",
    "earlier",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    callback=_read,
    help="The --json document of an earlier run, also of another machine.",
)
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=25, show_default=True, help="Per cent that may be worse."
)
@click.option("--keep", is_flag=True, help="Keep the run's folder (logs and data) also when all went well.")
@click.option("--json", "machine_readable", is_flag=True, help="One JSON document on stdout; progress goes to stderr.")
def all_command(
    names: tuple[str, ...],
    wished: tuple[tuple[str, tuple[int, ...]], ...],
    repeats: int,
    warm_up: int,
    profile: Path | None,
    earlier: Earlier | None,
    tolerance: float,
    keep: bool,
    machine_readable: bool,
) -> None:
    """Run all scenarios, or those chosen, and show one table: ours, the plain worker, the ratio and the goal.

    relay: from Redis to Kafka, beside a plain relay. pace: new pictures, 4 and 9 a second. capacity: posts of each
    kind, published at once. scaling: 1, 2 and 3 workers. provider: its answers take 3 s; 3 workers, one of them
    killed, and 1 worker. replay: inputs sent again. letters: dead letters replayed. growth: with many posts in the
    tables: processor time, memory, restart. recovery: a restart with many open posts. sinks: each store, in batches
    beside one by one.

    Sizes unless given: relay=5000 pace=15 capacity=200 scaling=200 provider=100 replay=2000 letters=200
    growth=5000,100000 recovery=10000 sinks=1000. They count posts, of pace seconds, of relay entries, of sinks results.

    With --compare it compares what does not depend on the machine: ratios to the plain worker, and other figures in
    units of its processor time for a new picture. Exit code 0 only if all work ended and no figure is worse than before
    by more than --tolerance.
    """
    console = result_console(machine_readable=machine_readable)
    home = vision_home() / "bench" / str(int(time.time()))
    profiler = Profiler(profile)
    result = Everything(Wish(chosen_sizes(names, dict(wished)), warm_up, profiler))
    for number in range(1, repeats + 1):
        folder = home / f"repeat-{number}"
        console.print(f"repeat {number} of {repeats}", highlight=False)
        on_own_services(console, folder, partial(run_repeat, result, folder))
    comparison = _compared(result, earlier, tolerance / 100)
    show(console, result, comparison)
    document = {**as_json(result, comparison), **show_profiles(console, profiler)}
    finish(console, home, document, machine_readable=machine_readable, keep=keep or not result.ok)
    sys.exit(0 if result.ok and not (comparison and comparison.worse) else EXIT_FAILED)


def chosen_sizes(names: Sequence[str], wished: Mapping[str, Sequence[int]]) -> dict[str, Sequence[int]]:
    """The sizes of the chosen scenarios, or of all, in the order in which they run."""
    return {
        name: wished.get(name, scenario.sizes) for name, scenario in SCENARIOS.items() if not names or name in names
    }


def _compared(result: Everything, earlier: Earlier | None, tolerance: float) -> Comparison | None:
    return compare(result.rows, result.wish.sizes, earlier, tolerance) if earlier else None


bench_group.add_command(pace_command)
bench_group.add_command(capacity_command)
