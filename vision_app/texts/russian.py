"""Finds the Russian version of a text, in the form that a number asks for. The versions are in `ru`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from string import Formatter
from typing import SupportsIndex

from .ru import RUSSIAN

LEAST_LETTERS = 8
"""Fewer letters of its own do not show that a sentence was made from a text."""
MANY = 5
DEEPEST = 3
"""A sentence may stand in a sentence: the reason in a stall, in a worker's state. Deeper ones stay as they are."""

Part = tuple[str, str | None]
"""What stands before a value, and the value's name; None at the end."""


def russian(text: str, values: Mapping[str, object]) -> str:
    """The Russian version, still with its `{name}`; the text itself if there is none."""
    found = RUSSIAN.get(text, text)
    if isinstance(found, str):
        return found
    count = values.get(found.by)
    return found.of(count.__index__() if isinstance(count, SupportsIndex) else MANY)


def russian_of(said: str, depth: int = 0) -> str:
    """The Russian version of a whole English sentence, with what stands in it in Russian as well; or the sentence."""
    if said in RUSSIAN and (depth == 0 or len(said) >= LEAST_LETTERS):  # a short value may be a name
        return russian(said, {})
    for parts, text in _texts_with_values() if depth <= DEEPEST else ():
        if (values := _values(parts, said)) is not None:
            numbers = {name: int(value) for name, value in values.items() if value.isascii() and value.isdecimal()}
            shown = {name: russian_of(value, depth + 1) for name, value in values.items()}
            return _without_formats(russian(text, numbers)).format_map(shown)
    return said


@cache
def _texts_with_values() -> list[tuple[Sequence[Part], str]]:
    """Each text with values and enough letters of its own, the most telling first."""
    found = []
    for text in RUSSIAN:
        parts = [(own, name) for own, name, *_ in Formatter().parse(text)]
        letters = sum(sign.isalpha() for own, _ in parts for sign in own)
        if letters >= LEAST_LETTERS and any(name for _, name in parts):
            found.append((letters, parts, text))
    return [(parts, text) for _, parts, text in sorted(found, key=lambda one: -one[0])]


def _values(parts: Sequence[Part], said: str) -> dict[str, str] | None:
    """The values with which a text gives this sentence, each as short as can be; None if it does not give it.

    Reads the sentence once from left to right: what others wrote into it must not cost time.
    """
    values: dict[str, str] = {}
    (start, name), *others = parts
    if not said.startswith(start):
        return None
    at = len(start)
    for own, following in [*others, *([("", None)] if parts[-1][1] is not None else [])]:
        last = following is None
        end = len(said) - len(own) if last else said.find(own, at)
        if end < at or not said.startswith(own, end) or name is None or values.get(name, said[at:end]) != said[at:end]:
            return None
        values[name], name, at = said[at:end], following, end + len(own)
    return values


def _without_formats(text: str) -> str:
    """`{seconds:.0f}` as `{seconds}`: in what was said the value has its format already."""
    return re.sub(r"\{(\w+)[!:][^{}]*\}", r"{\1}", text)
