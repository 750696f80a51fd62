"""Commands that prepare a service and run to their end, such as initdb."""

from __future__ import annotations

import subprocess
from typing import Any

from vision_app.stack.environment import plain
from vision_app.stack.errors import StackError
from vision_app.texts import say


def run_once(command: list[str], doing: str, **options: Any) -> None:
    """Run a command; `options` are those of subprocess.run. Raises StackError with its output when it fails."""
    environment = plain() | options.pop("env", {})
    try:
        outcome = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, env=environment, **options
        )
    except FileNotFoundError as error:
        raise StackError(
            say("{doing} needs the program {command}, which is not installed", doing=doing, command=command[0])
        ) from error
    if outcome.returncode != 0:
        output = (outcome.stderr + outcome.stdout).strip()[-1000:]
        raise StackError(
            say(
                "{doing} failed with exit code {returncode}: {output}",
                doing=doing,
                returncode=outcome.returncode,
                output=output,
            )
        )
