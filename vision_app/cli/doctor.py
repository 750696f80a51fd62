"""`vision doctor`: runs the checks of `vision_app.stack.checks` and shows what they found."""

from __future__ import annotations

import logging
import platform
import sys

import click
from rich.console import Console

from vision_app.operations.connections import run
from vision_app.operations.doctor import operation
from vision_app.printable import json_text
from vision_app.settings import Settings, SettingsError, load_settings, sources, vision_home
from vision_app.stack import checks, client
from vision_app.stack.checks import Finding, Level
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.plan import Planner, StackOptions
from vision_app.stack.state import StackState
from vision_app.texts import noted, say

MARKS = {
    Level.OK: ("green", noted("ok    ")),
    Level.HINT: ("yellow", noted("hint  ")),
    Level.FAILED: ("red", noted("FAILED")),
}


@click.command()
@click.option("--json", "machine_readable", is_flag=True, help="For scripts.")
def doctor(machine_readable: bool) -> None:
    """Check what keeps the system from working, and say what to do. Exit code 1 if something must be done."""
    logging.disable(logging.CRITICAL)  # clients log failed connections; the findings report them with advice
    findings = _findings()
    if machine_readable:
        click.echo(json_text([f.model_dump() for f in findings]))
    else:
        _show(findings)
    sys.exit(1 if any(f.verdict is Level.FAILED for f in findings) else 0)


def _findings() -> list[Finding]:
    home = Home(vision_home())
    state = client.live_state(home)
    python = Finding(check="python", verdict=Level.OK, detail=platform.python_version())
    findings = [python, checks.disk_space(home.root), checks.memory(state), *checks.supervisor(home, state)]
    try:
        settings = load_settings()
    except SettingsError as error:
        wrong = [Finding(check=say("settings"), verdict=Level.FAILED, detail=line) for line in str(error).splitlines()]
        return findings + wrong
    return [*findings, *checks.given_settings(settings), *_with_settings(home, settings, state)]


def _with_settings(home: Home, settings: Settings, state: StackState | None) -> list[Finding]:
    plan = Planner(home, Instance.load(home), settings, sources()).plan(StackOptions())
    ports, services = run(checks.worker_ports(settings, state)), run(checks.services(settings, plan, state))
    failed = {one.check for one in services if one.verdict is Level.FAILED and not one.answers}
    up = {name: expected and name not in failed for name, expected in checks.expected(plan, state).items()}
    return [
        *checks.packages(plan),
        *ports,
        *services,
        *run(operation(settings, up)),
        checks.tesseract(settings.vision_ocr_languages),
        *run(checks.ocr_of_worker(settings)),
    ]


def _show(findings: list[Finding]) -> None:
    console = Console(soft_wrap=True)
    for finding in findings:
        style, mark = MARKS[finding.verdict]
        console.print(f"[{style}]{say(mark)}[/] {finding.check}: ", end="")
        console.print(finding.detail, markup=False, highlight=False)
