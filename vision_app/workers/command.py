"""Decides, before the worker is loaded, whether `worker` means one process or a supervisor with several.

Only for the command `worker`: Faust's other commands, and `worker --help`, stay as they are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from vision_app.settings import Settings, SettingsError, load_settings

from .machine import this_machine
from .sizing import Size, size

COMMAND = "worker"
HELP = "--help"
ONE_PROCESS_ONLY = ("-p", "--web-port", "-b", "--web-bind", "-h", "--web-host", "-D", "--datadir")
"""Options of Faust that several processes cannot share."""
APP_OPTIONS = ("-A", "--app")
PROGRAM = (sys.executable, "-m", "vision_app")


@dataclass(frozen=True)
class Several:
    """A supervisor is to run: with these settings, so many processes, each with these arguments."""

    settings: Settings
    size: Size
    arguments: tuple[str, ...]


def several(arguments: Sequence[str]) -> Several | None:
    """What a supervisor is to run, or None if the command is for one process.

    `arguments`: those of `faust` or `python -m vision_app`. None also if a setting is wrong: the worker reports it.
    Raises SettingsError for options that several processes cannot share.
    """
    if COMMAND not in arguments or HELP in arguments:
        return None
    try:
        settings = load_settings()
    except SettingsError:
        return None
    if settings.vision_workers == "1" or not settings.vision_api_port:
        return None
    found = size(settings, this_machine())
    if found.processes == 1:
        return None
    ours = without_app(arguments)
    shared = [one for one in ours if one.partition("=")[0] in ONE_PROCESS_ONLY]
    if shared:
        raise SettingsError(
            f"{', '.join(shared)}: {found.processes} processes cannot share this option; remove it and set "
            "VISION_API_HOST, VISION_API_PORT or VISION_HOME, or set VISION_WORKERS=1"
        )
    return Several(settings, found, ours)


def without_app(arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments without Faust's option that names the app: `python -m vision_app` knows it."""
    kept: list[str] = []
    skip = False
    for one in arguments:
        if skip:
            skip = False
        elif one in APP_OPTIONS:
            skip = True
        elif not one.startswith(("-A", "--app=")):
            kept.append(one)
    return tuple(kept)


def become_supervisor() -> None:
    """For `faust -A vision_app.app worker`: go on as `python -m vision_app worker` if that runs several processes.

    Raises SettingsError.
    """
    if (found := several(sys.argv[1:])) is not None:
        os.execv(PROGRAM[0], [*PROGRAM, *found.arguments])  # noqa: S606 - the same command in this very process
