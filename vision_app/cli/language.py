"""The language of the command line: chosen before a command says anything, also for help and for click's own words."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping

import click
from click import core, decorators, exceptions, formatting, parser, termui, types

from vision_app.texts import language, language_of, say, use
from vision_app.texts.russian import russian

CLICK = (core, decorators, exceptions, formatting, parser, termui, types)
"""The modules of click that say something. Each has taken `gettext` as `_`, and some `ngettext`."""
MACHINE_READABLE = "--json"
"""What a script reads stays English, its errors included."""


def choose(environment: Mapping[str, str], arguments: Collection[str]) -> None:
    """Choose the language of a command. Raises UnknownLanguage."""
    use("en" if MACHINE_READABLE in arguments else language_of(environment))
    for module in CLICK:
        for name, function in (("_", say), ("ngettext", _say_count)):
            if hasattr(module, name):
                setattr(module, name, function)


def _say_count(one: str, many: str, n: int, /) -> str:
    """`ngettext`: the text for one, or for several, still with its `{name}`."""
    if language() == "ru":
        return russian(many, {"n": n})
    return one if n == 1 else many


def in_language(command: click.Command) -> click.Command:
    """The command with its help in the language in use; the command itself is left as it is."""
    if language() == "en":
        return command
    found = copy.copy(command)
    vars(found)["_help_option"] = None  # click keeps the one it has made, with its help
    found.help = _said(command.help)
    found.short_help = _said(command.short_help)
    found.params = [_parameter(one) for one in command.params]
    if isinstance(command, click.Group) and isinstance(found, click.Group):
        found.commands = {name: in_language(one) for name, one in command.commands.items()}
    return found


def _parameter(parameter: click.Parameter) -> click.Parameter:
    found = copy.copy(parameter)
    if isinstance(found, click.Option):
        found.help = _said(found.help)
    return found


def _said(text: str | None) -> str | None:
    return None if text is None else "\n\n".join(say(one) for one in paragraphs(text))


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a help text, each in one line: the keys of their translations."""
    for paragraph in text.split("\n\n"):
        if line := " ".join(paragraph.split()):
            yield line
