"""Helps commands that run on their own services: the run's folder, lines of progress, the result."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson
import structlog
from rich.console import Console

from vision_app.lab.soak.brokers import BrokerLost
from vision_app.lab.soak.run import Tell
from vision_app.lab.soak.workers import WorkerLost
from vision_app.printable import json_text
from vision_app.stack.client import running_stack
from vision_app.stack.errors import StackError

PIPE_WIDTH = 150
Result = TypeVar("Result")
Command = TypeVar("Command", bound=Callable[..., None])


def run_options(*, workers: int) -> Callable[[Command], Command]:
    """The options of every such command: `--workers` with this default, `--keep`, `--json` as `machine_readable`."""
    options = (
        click.option("--workers", type=click.IntRange(min=1), default=workers, show_default=True),
        click.option("--keep", is_flag=True, help="Keep the run's folder (logs and data) also when all went well."),
        click.option(
            "--json", "machine_readable", is_flag=True, help="One JSON document on stdout; progress goes to stderr."
        ),
    )

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def result_console(*, machine_readable: bool) -> Console:
    """Where progress and tables go: stderr if stdout is for JSON. Wide enough for the tables if it is no terminal."""
    told = sys.stderr if machine_readable else sys.stdout
    return Console(file=told, width=None if told.isatty() else PIPE_WIDTH)


def on_own_services(
    console: Console,
    home: Path,
    play: Callable[[Mapping[str, str], Tell], Coroutine[Any, Any, Result]],
    *,
    brokers: int = 1,
) -> Result:
    """Make the folder `home`, start services in it, and run `play` on them. Raises StackError.

    Several brokers reach each other through proxies that must listen before: see `between_brokers`.
    """
    home.mkdir(parents=True, exist_ok=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    started = time.monotonic()

    def tell(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - started:6.0f} s[/]  {line}", highlight=False)

    tell(f"starting services in {home}")
    with running_stack(home, brokers=brokers, broker_proxies=brokers > 1) as variables:
        try:
            return asyncio.run(play(variables, tell))
        except (WorkerLost, BrokerLost) as fault:
            raise StackError(str(fault)) from fault


def finish(console: Console, home: Path, result: Mapping[str, Any], *, machine_readable: bool, keep: bool) -> None:
    """Print the result as JSON if wanted; remove the run's folder, or keep it with the result."""
    if machine_readable:
        click.echo(json_text(result))
    if not keep:
        shutil.rmtree(home)
        return
    (home / "result.json").write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    console.print(f"Logs, data and result.json: {home}")
