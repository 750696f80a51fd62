"""`vision demo`: the main job on real input with one command. The work is in `vision_app.lab.demo`."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Coroutine
from contextlib import redirect_stdout
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.panel import Panel

from vision_app.cli.stack import down as stop_stack
from vision_app.cli.stack import up as start_stack
from vision_app.lab.demo.plan import plan
from vision_app.lab.demo.progress import Board
from vision_app.lab.demo.report import as_json, show
from vision_app.lab.demo.run import Outcome, run
from vision_app.operations.api import WorkerAway
from vision_app.operations.connections import FAULTS, api_url
from vision_app.printable import json_text
from vision_app.settings import Settings, load_settings, vision_home
from vision_app.stack.errors import StackError
from vision_app.stack.home import Home

EXIT_FAILED, EXIT_NOT_CONFIRMED, EXIT_INTERRUPTED = 1, 2, 130
PIPE_WIDTH = 160
SIMULATED = """\
Ответы GigaChat в этой демонстрации ИМИТИРУЮТСЯ: ни одна картинка не покидает эту машину, токены не тратятся.
GigaChat is SIMULATED here: the answers come from a simulator on this machine; nothing is sent out, nothing is paid.
For the real service set GIGACHAT_CREDENTIALS, then `vision down` and `vision demo`."""
REAL = """\
Используется настоящий GigaChat ({url}): картинки будут отправлены туда, токены будут оплачены.
The real GigaChat is used ({url}): the pictures are sent there, and the tokens are paid for."""


@click.command()
@click.option(
    "--keep/--down",
    default=True,
    help="Leave the stack running (default; also after Ctrl-C), or stop it.",
)
@click.option("--json", "machine_readable", is_flag=True, help="One JSON document on stdout; progress goes to stderr.")
@click.option("--yes", is_flag=True, help="Agree to pay for tokens when the real GigaChat is configured.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="How many workers.")
@click.option("--deadline", type=click.FloatRange(min=1), default=120, show_default=True, help="Seconds for all posts.")
@click.option("--kill-worker", is_flag=True, hidden=True, help="SIGKILL a worker in the middle.")
@click.pass_context
def demo(
    ctx: click.Context,
    keep: bool,
    machine_readable: bool,
    yes: bool,
    workers: int,
    deadline: float,
    kill_worker: bool,
) -> None:
    """Start the stack, send posts of two invented tenants through it, and check the results in every store.

    Exit code 0 only if every post ended as expected.
    """
    told = sys.stderr if machine_readable else sys.stdout
    console = Console(file=told, width=None if told.isatty() else PIPE_WIDTH)
    with redirect_stdout(told):
        ctx.invoke(start_stack, workers=workers)
        try:
            outcome = _run(console, yes, deadline, kill_worker)
        except KeyboardInterrupt:
            console.print("Interrupted. The stack stays up: `vision status` shows it, `vision down` stops it.")
            sys.exit(EXIT_INTERRUPTED)
        if not machine_readable:
            show(console, outcome, load_settings(), vision_home())
        _verdict(console, outcome, keep)
        if not keep:
            ctx.invoke(stop_stack)
    if machine_readable:
        click.echo(json_text(as_json(outcome)))
    sys.exit(0 if outcome.ok else EXIT_FAILED)


def _run(console: Console, yes: bool, deadline: float, kill_worker: bool) -> Outcome:
    settings, home = load_settings(), Home(vision_home())
    _banner(console, settings, yes)
    posts = plan(f"{datetime.now():%m%d-%H%M%S}-{secrets.token_hex(2)}")
    board = Board(posts)
    work = run(settings, home, api_url(settings), posts, board, deadline_seconds=deadline, kill_worker=kill_worker)
    try:
        return _shown(console, board, work)
    except (WorkerAway, *FAULTS) as fault:
        reason = str(fault) or type(fault).__name__
        raise StackError(f"{reason}; the stack stays up, `vision doctor` looks for the cause") from fault


def _banner(console: Console, settings: Settings, yes: bool) -> None:
    """Say which provider answers; if that costs money, go on only after a confirmation."""
    if settings.gigachat_simulated:
        console.print(Panel(SIMULATED, border_style="magenta"))
        return
    console.print(Panel(REAL.format(url=settings.gigachat_base_url), border_style="red"))
    if not yes:
        console.print("Run `vision demo --yes` to agree. Nothing was sent; the stack stays up.")
        sys.exit(EXIT_NOT_CONFIRMED)


def _shown(console: Console, board: Board, work: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run to the end: in a terminal with a table that changes in place, otherwise with a line per change."""
    if not console.is_terminal:
        board.on_change = lambda line: console.print(line, markup=False, highlight=False) if line else None
        return asyncio.run(work)
    with Live(console=console, get_renderable=board.table, refresh_per_second=4, transient=True):
        return asyncio.run(work)


def _verdict(console: Console, outcome: Outcome, keep: bool) -> None:
    seconds, posts = outcome.findings.seconds, len(outcome.findings.posts)
    if outcome.ok:
        console.print(f"[bold green]All {posts} posts ended as expected, in {seconds:.1f} s.[/]")
        return
    failed = sum(not check.ok for check in outcome.checks)
    console.print(
        f"[bold red]{failed} of {len(outcome.checks)} checks failed, {len(outcome.hanging)} of {posts} posts hang.[/] "
        f"`vision doctor` looks for causes{'; the stack stays up for you to look at' if keep else ''}."
    )
