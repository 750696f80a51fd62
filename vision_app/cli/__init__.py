"""The `vision` command: one module per group of commands, imported only when one of its commands runs.

A new command: write it in a module here and add a line to `COMMANDS`. The laboratory's commands are given by name only,
so that no module of the product imports it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, cast

import click
from click.shell_completion import CompletionItem

from vision_app.cli.language import choose, in_language
from vision_app.printable import printable
from vision_app.settings import SettingsError
from vision_app.stack.errors import StackError
from vision_app.texts import UnknownLanguage, noted, say

EXIT_FAILED = 1
EXIT_SETTINGS = 2

# name: (module below `_package`, attribute, one line for --help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("demo", "demo", noted("The main job, end to end, on real services: start here.")),
    "up": ("stack", "up", noted("Start the services and the worker in the background.")),
    "down": ("stack", "down", noted("Stop everything `vision up` started.")),
    "status": ("stack", "status", noted("What runs, where, since when, with how much memory.")),
    "logs": ("stack", "logs", noted("Show the log of a service.")),
    "worker": ("stack", "worker", noted("Run a worker here, in the foreground.")),
    "doctor": ("doctor", "doctor", noted("Look for what keeps the system from working, and say what to do.")),
    "migrate": (
        "migrate",
        "migrate",
        noted("Tables, topics and bucket: are they as we made them; put back what is missing."),
    ),
    "config": ("config", "config", noted("The effective configuration and where each value comes from.")),
    "policy": (
        "policy",
        "policy_group",
        noted("Which media are analyzed: check the policy file, explain its verdicts."),
    ),
    "e2e": ("e2e", "e2e", noted("One post through the whole pipeline, checked step by step (acceptance guide).")),
    "publish": ("publish", "publish", noted("Publish test posts: valid, without their objects, unreadable.")),
    "diag": (
        "diag",
        "diag",
        noted("What is known of a post; counts of streams and storage; would a file be analyzed."),
    ),
    "upload": ("upload", "upload", noted("Put a picture into the bucket as a producer does, where there is room.")),
    "storage": ("storage", "storage", noted("What the bucket holds and may hold; clean it up.")),
    "trace": ("trace", "trace", noted("Every hop of one post with its time, and where it stopped.")),
    "posts": ("posts", "posts", noted("Which posts hang, since when, waiting for what.")),
    "audit": ("audit", "audit", noted("Was every input answered once, and every token charged once: the accounts.")),
    "dlq": ("dlq", "dlq", noted("What could not be processed: list, show, replay, discard; set a record aside.")),
    "replay": ("replay", "replay", noted("Send recorded inputs again, by time, offsets or provider.")),
    "budget": ("budget", "budget", noted("What tenants spent and may spend: show, set a limit, reset, who waits.")),
    "cost": ("cost", "cost", noted("What was spent and what was saved, by tenant, channel, model, kind or day.")),
    "pause": ("budget", "pause", noted("Let nothing new start for a tenant, or for all.")),
    "resume": ("budget", "resume", noted("Let the work of a paused tenant, or of all, go on.")),
    "soak": ("soak", "soak_command", noted("A long run with killed workers and failing services, and its account.")),
    "bench": (
        "bench",
        "bench_group",
        noted("How fast it is, beside a plain worker: everything at once, or one thing."),
    ),
    "kafka": ("kafka", "kafka", noted("Kafka's own console tools, connected to the configured broker.")),
}
LABORATORY = frozenset({"demo", "soak", "bench"})


def _package(command: str) -> str:
    return "vision_app.lab.cli" if command in LABORATORY else "vision_app.cli"


class CommandLine(click.Group):
    """Finds commands in `COMMANDS` and turns our errors into one line each and an exit code."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> Any:
        """Choose the language, then run as click does."""
        try:
            choose(os.environ, sys.argv[1:] if args is None else args)
        except UnknownLanguage as error:
            click.echo(f"vision: {error}", err=True)
            sys.exit(EXIT_SETTINGS)
        return click.Group.main(cast(CommandLine, in_language(self)), args, *more, **named)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"{_package(cmd_name)}.{module}"), attribute)
        return in_language(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section(say("Commands")):
            formatter.write_dl([(name, say(line)) for name, (_, _, line) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names by themselves: click would import every module to see which commands are hidden."""
        named = [
            CompletionItem(name, help=say(line))
            for name, (_, _, line) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*named, *click.Command.shell_complete(self, ctx, incomplete)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse what is not UTF-8, which no store can hold, unless it names a file."""
        for one in args:
            if any("\ud800" <= character <= "\udfff" for character in one) and not os.path.lexists(one):
                raise click.UsageError(
                    say("the argument {text} is not UTF-8; check the terminal's encoding", text=printable(one)), ctx
                )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            click.echo(printable(str(error)), err=True)
            sys.exit(EXIT_SETTINGS)
        except StackError as error:
            click.echo(printable(f"vision: {error}"), err=True)
            sys.exit(EXIT_FAILED)


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="vision-app")
def main() -> None:
    """Looks at every picture posted to a Telegram channel and tells the rest of an assistant what it shows."""
