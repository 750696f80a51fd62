"""`vision kafka`: what `consume` prints, `produce` accepts."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

Tool = Callable[..., subprocess.CompletedProcess[str]]
TOPIC = "test.stack.tools"


@pytest.fixture
def kafka(stack: dict[str, str]) -> Tool:
    def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from vision_app.cli import main; main()", "kafka", *arguments]
        environment = os.environ | stack
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, env=environment)

    return run


def test_a_line_consumed_can_be_produced_again(kafka: Tool) -> None:
    lines = 'tenant:post|{"text":"с картинкой | и чертой"}\n'
    assert kafka("topics", "--create", "--topic", TOPIC, "--partitions", "1").returncode == 0
    assert kafka("produce", "--topic", TOPIC, given=lines).returncode == 0
    first = kafka("consume", "--topic", TOPIC, "--from-beginning", "--max-messages", "1")
    assert (first.returncode, first.stdout) == (0, lines)
    assert kafka("produce", "--topic", TOPIC, given=first.stdout).returncode == 0
    both = kafka("consume", "--topic", TOPIC, "--from-beginning", "--max-messages", "2")
    assert both.stdout == lines * 2
    bare = kafka(
        "consume", "--topic", TOPIC, "--from-beginning", "--max-messages", "1", "--property", "print.key=false"
    )
    assert bare.stdout == lines.partition("|")[2]


def test_the_exit_code_of_the_tool_is_ours(kafka: Tool) -> None:
    assert kafka("topics", "--describe", "--topic", "test.stack.absent").returncode == 1
    listed = kafka("groups", "--list")
    assert listed.returncode == 0
    assert all(line and " " not in line for line in listed.stdout.splitlines())


HOSTILE = "a\x9b2J\u202eb\u200bc"
RAW = "key|no json \x9b2J \u202e\n"


def test_consumed_lines_contain_no_control_characters_and_can_be_produced_again(
    kafka: Tool, stack: dict[str, str]
) -> None:
    topic = "test.stack.hostile"
    line = f'tenant:post|{{"text":"{HOSTILE}"}}\n'
    assert kafka("topics", "--create", "--topic", topic, "--partitions", "1").returncode == 0
    assert kafka("produce", "--topic", topic, given=line + RAW).returncode == 0
    read = ("consume", "--topic", topic, "--from-beginning", "--max-messages")
    first = kafka(*read, "2").stdout.splitlines(keepends=True)
    assert first[0] == 'tenant:post|{"text":"a\\u009b2J\\u202eb\\u200bc"}\n'
    assert first[1] == RAW, "in a pipe nothing is changed that would mean something else afterwards"
    assert kafka("produce", "--topic", topic, given=first[0]).returncode == 0
    again = kafka(*read, "3").stdout.splitlines()[2]
    assert json.loads(again.partition("|")[2]) == {"text": HOSTILE}
    seen = in_a_terminal(stack, *read, "2")
    assert "\\u009b2J" in seen
    assert not set(HOSTILE) - set("a2Jbc") & set(seen)


def in_a_terminal(stack: dict[str, str], *arguments: str) -> str:
    """What a terminal is sent by the command."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from vision_app.cli import main; main()", "kafka", *arguments]
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=os.environ | stack)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # how the end of a terminal is told
        while content := os.read(ours, 65536):
            seen += content
    os.close(ours)
    assert process.wait(60) == 0
    return seen.decode()


def test_an_interrupt_ends_the_tool_and_us(kafka: Tool, stack: dict[str, str]) -> None:
    topic = "test.stack.interrupted"
    assert kafka("topics", "--create", "--topic", topic, "--partitions", "1").returncode == 0
    assert kafka("produce", "--topic", topic, given="k|v\n").returncode == 0
    code = "from vision_app.cli import main; main()"
    command = [sys.executable, "-c", code, "kafka", "consume", "--topic", topic, "--from-beginning"]
    for stop in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | stack, start_new_session=True)
        assert process.stdout is not None
        assert process.stdout.readline() == b"k|v\n"
        children = psutil.Process(process.pid).children(recursive=True)
        if stop is signal.SIGINT:
            os.killpg(process.pid, stop)  # as a terminal does
        else:
            process.send_signal(stop)
        process.wait(30)
        assert psutil.wait_procs(children, 30)[1] == []
        process.stdout.close()
