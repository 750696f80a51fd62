"""Other people's texts where people read them: nothing in them may steer a terminal or look other than it is.

Not for what programs read: there every text stays what it is, escaped as its format demands.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

_SUSPECT = re.compile(r"[^\n -~]")  # ASCII needs no second look


def printable(text: str) -> str:
    """With `?` for what has no glyph: control characters, escape sequences, changes of direction, invisible letters."""
    return _SUSPECT.sub(lambda found: found[0] if found[0].isprintable() else "?", text)


def json_text(document: Any, *, indent: bool = True) -> str:
    """A document as JSON that may be shown in a terminal. Raises orjson.JSONEncodeError."""
    return escaped(orjson.dumps(document, option=orjson.OPT_INDENT_2 if indent else 0).decode())


def escaped(text: str) -> str:
    """JSON text that means the same, with escapes for what has no glyph."""
    return _SUSPECT.sub(lambda found: found[0] if found[0].isprintable() else _escape(found[0]), text)


def tool_line(line: bytes, *, terminal: bool) -> bytes:
    """A line of another program's output, such as `key|value`, with escapes for what has no glyph.

    Where the value is JSON the line means the same afterwards, so this is done always; anything else is left as it is
    unless a terminal shows it: there nothing is more important than that it does not obey.
    """
    text = line.decode("utf-8", "surrogateescape")
    safe = "\n".join(escaped(part) for part in text.split("\n"))
    return safe.encode() if safe != text and (terminal or _same_json(text, safe)) else line


def _same_json(text: str, safe: str) -> bool:
    """Whether both are one key (or none) before one JSON value, and mean the same."""
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=len(text))
    if text[:start] != safe[:start]:
        return False
    try:
        return bool(orjson.loads(text[start:]) == orjson.loads(safe[start:]))
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return False


def _escape(sign: str) -> str:
    units = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
