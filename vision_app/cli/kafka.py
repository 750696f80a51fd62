"""`vision kafka`: Kafka's own console tools, from the jars of the embedded broker, connected to the configured one.

Their output may contain hostile text, so it goes through `printable.tool_line` before it reaches a terminal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import click

from vision_app.clients.kafka import servers, tool_configuration, tool_path
from vision_app.printable import tool_line
from vision_app.settings import load_settings
from vision_app.stack.environment import plain
from vision_app.stack.files import write_atomically
from vision_app.stack.home import cache_folder
from vision_app.stack.jars import classpath
from vision_app.stack.java import LOCALE, Java
from vision_app.stack.kafka import tool_logging
from vision_app.stack.process import tied_to_this_process

SEPARATOR = "|"
DEFAULT_TIMEOUT_MS = 10_000
OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m")
PASS_THROUGH = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []}


@click.group()
def kafka() -> None:
    """Kafka's own console tools, connected to the configured broker (KAFKA_BOOTSTRAP_SERVERS).

    Every argument is passed on, for example: vision kafka consume --topic vision.posts --from-beginning.
    `--help` after a command shows the tool's own help.
    """


@kafka.command(context_settings=PASS_THROUGH, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def consume(arguments: tuple[str, ...]) -> None:
    """kafka-console-consumer: prints `key|value` lines that `produce` accepts.

    Control characters in JSON are printed as equivalent escapes. Other values are escaped on a terminal only, and go
    unchanged into a file or a pipe.
    """
    defaults = ["--property", "print.key=true", "--property", f"key.separator={SEPARATOR}"]
    if _has(arguments, "--max-messages") and not _has(arguments, "--timeout-ms"):
        defaults += ["--timeout-ms", str(DEFAULT_TIMEOUT_MS)]  # otherwise it waits for ever if there are fewer
    _run("org.apache.kafka.tools.consumer.ConsoleConsumer", "--consumer.config", [*defaults, *arguments])


@kafka.command(context_settings=PASS_THROUGH, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def produce(arguments: tuple[str, ...]) -> None:
    """kafka-console-producer: reads `key|value` lines from standard input."""
    defaults = ["--property", "parse.key=true", "--property", f"key.separator={SEPARATOR}"]
    with _command("org.apache.kafka.tools.ConsoleProducer", "--producer.config", [*defaults, *arguments]) as tool:
        for descriptor in tool.files:
            os.set_inheritable(descriptor, True)
        os.execve(tool.command[0], tool.command, plain() | LOCALE)  # noqa: S606 - it uses the terminal, and prints no records


@kafka.command(context_settings=PASS_THROUGH, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def groups(arguments: tuple[str, ...]) -> None:
    """kafka-consumer-groups. Without arguments: the lag of the workers' group (--describe --group KAFKA_APP_ID)."""
    chosen = list(arguments) or ["--describe", "--group", load_settings().kafka_app_id]
    _run("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--command-config", chosen)


@kafka.command(context_settings=PASS_THROUGH, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def topics(arguments: tuple[str, ...]) -> None:
    """kafka-topics: without arguments --list; for example --describe --topic vision.posts."""
    _run("org.apache.kafka.tools.TopicCommand", "--command-config", list(arguments) or ["--list"])


@kafka.command(context_settings=PASS_THROUGH, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def configs(arguments: tuple[str, ...]) -> None:
    """kafka-configs: for example --describe --entity-type topics --entity-name vision.posts."""
    _run("kafka.admin.ConfigCommand", "--command-config", list(arguments))


@dataclass(frozen=True)
class _Tool:
    """A command line, and the open files that its program has to inherit."""

    command: list[str]
    files: tuple[int, ...]


def _run(main_class: str, configuration: str, arguments: list[str]) -> None:
    """Run the tool and end with its exit code."""
    with _command(main_class, configuration, arguments) as tool:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # before the tool starts: both end when the reader goes
        code = _printed(tool)
    sys.exit(code)


@contextmanager
def _command(main_class: str, configuration: str, arguments: list[str]) -> Iterator[_Tool]:
    """The tool's command line. What we add comes first, so that later arguments win.

    `configuration`: the option for the file with passwords and certificates; one that the caller names replaces ours.
    """
    settings = load_settings()
    if not _has(arguments, "--bootstrap-server"):
        arguments = ["--bootstrap-server", ",".join(servers(settings)), *arguments]
    logging = cache_folder() / "kafka-tools.log4j2.properties"
    jars = classpath("kafka", lambda text: click.echo(text, err=True))
    write_atomically(logging, tool_logging())
    options = (*OPTIONS, f"-Dlog4j2.configurationFile={logging}")
    with ExitStack() as stack:
        files: tuple[int, ...] = ()
        if settings.kafka_security_protocol != "PLAINTEXT" and not _has(arguments, configuration):
            files = (stack.enter_context(tool_configuration(settings)),)
            arguments = [configuration, tool_path(files[0]), *arguments]
        yield _Tool(Java("kafka", jars).command(main_class, *arguments, options=options), files)


def _printed(what: _Tool) -> int:
    """Run a command that ends with this process, print its output without terminal control, return its exit code."""
    terminal = sys.stdout.isatty()
    sys.stdout.flush()
    command = [*tied_to_this_process(signal.SIGTERM), *what.command]
    tool = subprocess.Popen(command, stdout=subprocess.PIPE, env=plain() | LOCALE, pass_fds=what.files)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it also to the tool, which ends by itself
    signal.signal(signal.SIGTERM, lambda *_: tool.terminate())
    assert tool.stdout is not None  # noqa: S101 - it was asked for
    for line in tool.stdout:
        sys.stdout.buffer.write(tool_line(line, terminal=terminal))
        sys.stdout.buffer.flush()
    code = tool.wait()
    return code if code >= 0 else 128 - code


def _has(arguments: list[str] | tuple[str, ...], option: str) -> bool:
    return any(argument == option or argument.startswith(f"{option}=") for argument in arguments)
