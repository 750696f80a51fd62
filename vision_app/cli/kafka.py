"""`vision kafka`: Kafka's own console tools, from the jars of the embedded broker, connected to the configured one.

Their output may contain hostile text, so it goes through `printable.tool_line` before it reaches a terminal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import click

from vision_app.printable import tool_line
from vision_app.settings import load_settings
from vision_app.stack.environment import plain
from vision_app.stack.files import write_atomically
from vision_app.stack.home import cache_folder
from vision_app.stack.jars import classpath
from vision_app.stack.java import Java
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
    _run("org.apache.kafka.tools.consumer.ConsoleConsumer", [*defaults, *arguments])


@kafka.command(context_settings=PASS_THROUGH, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def produce(arguments: tuple[str, ...]) -> None:
    """kafka-console-producer: reads `key|value` lines from standard input."""
    defaults = ["--property", "parse.key=true", "--property", f"key.separator={SEPARATOR}"]
    command = _command("org.apache.kafka.tools.ConsoleProducer", [*defaults, *arguments])
    os.execve(command[0], command, plain())  # noqa: S606 - it uses the terminal, and prints no text of records


@kafka.command(context_settings=PASS_THROUGH, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def groups(arguments: tuple[str, ...]) -> None:
    """kafka-consumer-groups. Without arguments: the lag of the workers' group (--describe --group KAFKA_APP_ID)."""
    chosen = list(arguments) or ["--describe", "--group", load_settings().kafka_app_id]
    _run("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", chosen)


@kafka.command(context_settings=PASS_THROUGH, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def topics(arguments: tuple[str, ...]) -> None:
    """kafka-topics: without arguments --list; for example --describe --topic vision.posts."""
    _run("org.apache.kafka.tools.TopicCommand", list(arguments) or ["--list"])


def _run(main_class: str, arguments: list[str]) -> None:
    """Run the tool and end with its exit code."""
    command = _command(main_class, arguments)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # before the tool starts: both end when the reader goes
    sys.exit(_printed(command))


def _command(main_class: str, arguments: list[str]) -> list[str]:
    """The tool's command line. What we add comes first, so that later arguments win."""
    if not _has(arguments, "--bootstrap-server"):
        arguments = ["--bootstrap-server", load_settings().kafka_bootstrap_servers, *arguments]
    logging = cache_folder() / "kafka-tools.log4j2.properties"
    jars = classpath("kafka", lambda text: click.echo(text, err=True))
    write_atomically(logging, tool_logging())
    options = (*OPTIONS, f"-Dlog4j2.configurationFile={logging}")
    return Java("kafka", jars).command(main_class, *arguments, options=options)


def _printed(command: list[str]) -> int:
    """Run a command that ends with this process, print its output without terminal control, return its exit code."""
    terminal = sys.stdout.isatty()
    sys.stdout.flush()
    tool = subprocess.Popen([*tied_to_this_process(signal.SIGTERM), *command], stdout=subprocess.PIPE, env=plain())
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
