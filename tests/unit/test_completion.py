"""Shell completion of the commands, as docs/client.md says how to switch it on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = str(Path(sys.executable).with_name("vision"))


def printed(instruction: str, **environment: str) -> str:
    ran = subprocess.run(
        [PROGRAM],
        env={**os.environ, "_VISION_COMPLETE": instruction, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(shell: str) -> None:
    assert "_VISION_COMPLETE" in printed(f"{shell}_source")


@pytest.mark.parametrize(
    ("words", "expected"), [("vision bud", "budget"), ("vision budget s", "set"), ("vision cost --b", "--by")]
)
def test_commands_and_options_are_completed(words: str, expected: str) -> None:
    count = len(words.split()) - 1
    assert f"plain,{expected}" in printed("bash_complete", COMP_WORDS=words, COMP_CWORD=str(count)).splitlines()
