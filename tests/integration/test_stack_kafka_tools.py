"""`vision kafka`: what `consume` prints, `produce` accepts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

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
