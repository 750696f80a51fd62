"""`vision soak`: a long run with kills and outages, and its account. What it does is in `vision_app.soak`."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import sys
import time
from pathlib import Path

import click
import orjson
import structlog
from rich.console import Console

from vision_app.printable import json_text
from vision_app.settings import vision_home
from vision_app.soak.report import as_json, show
from vision_app.soak.run import Result, Wish, soak
from vision_app.soak.workers import WorkerLost
from vision_app.stack.client import running_stack
from vision_app.stack.errors import StackError

EXIT_FAILED = 1
COUNT = click.IntRange(min=0)


@click.command(name="soak")
@click.option("--minutes", type=click.FloatRange(min=0.1), default=10, show_default=True, help="Of traffic.")
@click.option("--posts", type=click.IntRange(min=1), default=1000, show_default=True, help="Spread over the minutes.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--kills", type=COUNT, default=50, show_default=True, help="SIGKILLs at random moments.")
@click.option("--terminations", type=COUNT, default=3, show_default=True, help="SIGTERMs at random moments.")
@click.option("--freezes", type=COUNT, default=2, show_default=True, help="SIGSTOPs longer than the session.")
@click.option(
    "--outage-seconds", type=click.FloatRange(min=0), default=15, show_default=True, help="Each service once; 0: none."
)
@click.option(
    "--calm-provider", is_flag=True, help="Its answers take their time, none goes wrong: what kills alone cost."
)
@click.option("--seed", type=int, default=None, help="Repeat a run; chosen and shown when not given.")
@click.option("--patience", type=click.FloatRange(min=0.1), default=10, show_default=True, help="Minutes for the rest.")
@click.option("--keep", is_flag=True, help="Keep the run's folder (logs and data) also when all went well.")
@click.option("--json", "machine_readable", is_flag=True, help="One JSON document on stdout; progress goes to stderr.")
def soak_command(
    minutes: float,
    posts: int,
    workers: int,
    kills: int,
    terminations: int,
    freezes: int,
    outage_seconds: float,
    calm_provider: bool,
    seed: int | None,
    patience: float,
    keep: bool,
    machine_readable: bool,
) -> None:
    """Send posts for some minutes while workers are killed and services fail, then count what came out.

    Runs on services of its own beside those of `vision up`; GigaChat is simulated. Exit code 0 only if every input
    ended exactly once, nothing was published twice and no budget was overspent.
    """
    console = Console(file=sys.stderr if machine_readable else sys.stdout)
    chosen = secrets.randbelow(1_000_000) if seed is None else seed
    home = vision_home() / "soak" / f"{chosen}-{int(time.time())}"
    wish = Wish(
        home=home,
        seed=chosen,
        posts=posts,
        minutes=minutes,
        workers=workers,
        kills=kills,
        terminations=terminations,
        freezes=freezes,
        outage_seconds=outage_seconds,
        calm_provider=calm_provider,
        patience_minutes=patience,
    )
    result = _run(console, wish)
    if machine_readable:
        click.echo(json_text(as_json(result)))
    show(console, result)
    _clean_up(console, result, home, keep)
    sys.exit(0 if result.ok else EXIT_FAILED)


def _run(console: Console, wish: Wish) -> Result:
    wish.home.mkdir(parents=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    started = time.monotonic()

    def tell(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.0f} s[/]  {line}", highlight=False)

    tell(f"seed {wish.seed}; starting services in {wish.home}")
    with running_stack(wish.home) as variables:
        try:
            return asyncio.run(soak(wish, variables, tell))
        except WorkerLost as fault:
            raise StackError(str(fault)) from fault


def _clean_up(console: Console, result: Result, home: Path, keep: bool) -> None:
    (home / "result.json").write_bytes(orjson.dumps(as_json(result), option=orjson.OPT_INDENT_2))
    if keep or not result.ok:
        console.print(f"Logs, data and result.json: {home}")
    else:
        shutil.rmtree(home)
