"""`vision up`, `down`, `status`, `logs`, `worker`: the embedded stack from the command line."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import click
from rich.console import Console
from rich.live import Live

from vision_app.cli.stack_view import Progress, as_json, gigachat_line, outdated_line, status_table, total_line
from vision_app.operations.health import Health, findings, health
from vision_app.printable import json_text
from vision_app.settings import load_settings, vision_home
from vision_app.stack import client
from vision_app.stack.checks import Level, before_start
from vision_app.stack.errors import StackError
from vision_app.stack.home import Home
from vision_app.stack.kafka import check_brokers
from vision_app.stack.leftovers import end_leftovers
from vision_app.stack.plan import StackOptions
from vision_app.stack.state import StackState
from vision_app.stack.worker import COMMAND, check_worker_ports
from vision_app.texts import say
from vision_app.workers.machine import this_machine
from vision_app.workers.sizing import size

FOLLOW_SECONDS = 0.3
ORDERS = ("stop", "start", "restart")

console = Console(width=None if sys.stdout.isatty() else 200)  # so that no text is cut off in a pipe


@click.command()
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="How many workers; default: VISION_WORKERS, or as many as run already.",
)
@click.option(
    "--brokers",
    type=click.Choice(["1", "3"]),
    help="How many Kafka brokers. Default: as many as there is data of, else 1.",
)
@click.option("--worker-command", default=shlex.join(COMMAND), hidden=True, help="What to run as a worker.")
def up(workers: int | None, brokers: str | None, worker_command: str) -> None:
    """Start the services and the worker in the background; returns when the worker is ready.

    The first start downloads about 190 MB. Services whose URL is set (REDIS_URL, KAFKA_BOOTSTRAP_SERVERS,
    DATABASE_URL, S3_ENDPOINT_URL, NEO4J_URI, GIGACHAT_BASE_URL) are not started. If it runs already, --workers changes
    the number of workers.
    """
    home = Home(vision_home())
    settings = load_settings()  # reports a wrong value here, not in a log
    supervisor = None
    if client.live_state(home) is not None:
        click.echo(say("Already up, or starting."))
        if workers is not None:
            client.scale(home, workers)
    else:
        wish = StackOptions(
            workers=size(settings, this_machine()).processes if workers is None else workers,
            worker_command=tuple(shlex.split(worker_command)),
            brokers=int(brokers or 0),
        )
        _check_start(home, wish)
        supervisor = client.start(home, wish)
    try:
        state = _watch(home, supervisor)
    except KeyboardInterrupt:
        raise StackError(
            say("the start goes on in the background; see `vision status`, stop it with `vision down`")
        ) from None
    console.print(gigachat_line(state))
    _say_where(state)


def _check_start(home: Home, wish: StackOptions) -> None:
    if wish.brokers:
        check_brokers(home, wish.brokers)
    end_leftovers(home)
    before_start(home)
    settings = load_settings()
    check_worker_ports(settings.vision_api_port, settings.metrics_port)


def _watch(home: Home, supervisor: client.SupervisorProcess | None) -> StackState:
    """Show the progress of a start: in a terminal as a table that changes in place, otherwise line by line."""
    progress = Progress()

    def tell(state: StackState) -> None:
        for line in progress.news(state):
            click.echo(line)

    if not console.is_terminal:
        return client.wait_ready(home, supervisor, tell)
    with Live(console=console, transient=True, refresh_per_second=8) as live:
        state = client.wait_ready(home, supervisor, lambda state: live.update(progress.table(state)))
    console.print(progress.table(state))
    return state


def _say_where(state: StackState) -> None:
    for service in state.services:
        if service.is_worker:
            click.echo(say("{name} is ready at {url}", name=service.name, url=service.url))
    click.echo(say("Next: vision status, vision logs worker-1 -f, vision down"))


@click.command()
def down() -> None:
    """Stop workers, then services; no process is left. Data stays."""
    home, told = Home(vision_home()), set[str]()

    def tell(state: StackState) -> None:
        for service in state.services:
            if service.detail == "stopping" and service.name not in told:
                told.add(service.name)
                click.echo(say("stopping {name}", name=service.name))

    stopped = client.stop(home, tell)
    click.echo(say("Stopped: {stopped}.", stopped=", ".join(stopped)) if stopped else say("Nothing was running."))


@click.command()
@click.option("--json", "machine_readable", is_flag=True, help="For scripts.")
def status(machine_readable: bool) -> None:
    """What runs, where, since when, with how much memory, and what each worker waits for.

    Exit code 0 if everything is ready and no work stands still, otherwise 1.
    """
    home, standing_still = Home(vision_home()), False
    state = client.live_state(home)
    if state is None and (alone := _worker_alone()):
        _show_alone(alone, machine_readable)
    if machine_readable:
        click.echo(json_text(as_json(state)))
    elif state is None:
        click.echo(say("Nothing is running. Start it with: vision up"))
    else:
        console.print(status_table(state))
        if outdated := outdated_line(state, home.state):
            console.print(outdated, markup=False, highlight=False, style="red")
        console.print(total_line(state))
        console.print(gigachat_line(state))
        for finding in findings(asyncio.run(health(load_settings()))):
            console.print(f"{finding.check}: {finding.detail}", markup=False, highlight=False)
            standing_still = standing_still or finding.verdict is Level.FAILED
    sys.exit(0 if state is not None and state.is_ready and not standing_still else 1)


def _runs_workers(state: StackState | None) -> bool:
    return state is not None and any(service.is_worker for service in state.services)


def _worker_alone() -> Health | None:
    """A worker that answers although `vision up` runs none here: in a container, or started by hand."""
    [worker] = asyncio.run(health(load_settings()))
    return worker if worker.answer is not None else None


def _show_alone(worker: Health, machine_readable: bool) -> NoReturn:
    """Show a worker without the table of services, and exit as `vision status` does."""
    found = findings([worker])
    ready = (worker.answer or {}).get("status") == "ready" and not worker.stalls
    if machine_readable:
        services = [{"name": worker.name, "url": worker.urls[0], "detail": "; ".join(f.detail for f in found)}]
        click.echo(json_text({"running": True, "ready": ready, "services": services}))
    else:
        for finding in found:
            console.print(f"{finding.check}: {finding.detail}", markup=False, highlight=False)
        console.print(say("Its services: `vision doctor`; its process: `docker compose ps`, or where it was started."))
    sys.exit(0 if ready else 1)


@click.command()
@click.argument("service")
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is added.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=50, show_default=True, help="How many lines first.")
def logs(service: str, follow: bool, lines: int) -> None:
    """Show the last lines of a service's log. SERVICE is a name from `vision status`, or supervisor."""
    home = Home(vision_home())
    log = home.log("worker-1" if service == "worker" else service)
    if not log.exists():
        if service.startswith("worker") and not _runs_workers(client.live_state(home)) and _worker_alone():
            raise StackError(
                say(
                    "the worker here was not started by `vision up`, so its log is its standard output: "
                    "`docker compose logs worker` where Docker Compose runs it, else the terminal or unit that "
                    "started it"
                )
            )
        known = ", ".join(sorted(path.stem for path in log.parent.glob("*.log"))) or say(
            "none yet; `vision up` makes them"
        )
        raise StackError(say("there is no log of {service}; there are: {known}", service=service, known=known))
    try:
        for line in _last_lines(log, lines):
            click.echo(line, nl=False)
        for line in _added(log) if follow else ():
            click.echo(line, nl=False)
    except KeyboardInterrupt:
        sys.exit(0)


def _last_lines(log: Path, count: int) -> deque[str]:
    with log.open(errors="replace") as file:
        return deque(file, maxlen=count)


def _added(log: Path) -> Iterator[str]:
    """The text that is written to the log from now on, also after a rotation."""
    file = log.open(errors="replace")
    file.seek(0, os.SEEK_END)
    while True:
        if text := file.read():
            yield text
            continue
        time.sleep(FOLLOW_SECONDS)
        if log.exists() and (log.stat().st_ino != os.fstat(file.fileno()).st_ino or log.stat().st_size < file.tell()):
            file.close()
            file = log.open(errors="replace")


def _order(action: str, numbers: tuple[str, ...]) -> None:
    if wrong := [text for text in numbers if not text.isdecimal()]:
        raise click.UsageError(
            say("{wrong!r} is no worker's number: vision worker {action} 2", wrong=wrong[0], action=action)
        )
    names = client.order_workers(Home(vision_home()), cast(Any, action), [int(text) for text in numbers])
    done = {
        "stop": say("Stopped"),
        "start": say("Ready"),
        "restart": say("Restarted and ready"),
    }[action]
    click.echo(f"{done}: {', '.join(names) or say('none')}.")


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker(arguments: tuple[str, ...]) -> None:
    """Run a worker here, in the foreground, until SIGTERM or Ctrl-C. Arguments go to Faust's own worker command.

    `vision worker stop|start|restart [N]...` stops, starts or restarts workers of `vision up`: those of these numbers,
    or all. Exit code 0 when it is done.
    """
    if arguments and arguments[0] in ORDERS:
        _order(arguments[0], arguments[1:])
        return
    load_settings()
    os.execv(COMMAND[0], [*COMMAND, *arguments])  # noqa: S606 - runs the worker in this very process
