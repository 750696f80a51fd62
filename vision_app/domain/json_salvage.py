"""Finding the JSON object in a model's answer, whole, wrapped in prose or cut off.

Purely about syntax: what the fields mean is `answer.py`'s matter. Work is linear in the text and bounded in depth,
because the text is untrusted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_CHARS = 400_000  # an answer of 512 tokens has about 2,000; OCR text alone may be 100,000
MAX_DEPTH = 32
MAX_STARTS = 16  # opening braces tried as the beginning of the answer
MAX_CUTS = 12  # places tried as the end of a truncated answer

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[{}\[\],]', re.DOTALL)
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_INNER_QUOTE = re.compile(r'\\.|"', re.DOTALL)
_AFTER_STRING = re.compile(r"\s*(?:[,:}\]]|\Z)")
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_HALF_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u[0-9a-fA-F]{0,3})?\Z")


@dataclass(frozen=True)
class Found:
    """An object and how it was found: `truncated` and `mended` mean that something may be missing or wrong."""

    fields: dict[str, Any]
    faults: tuple[str, ...] = ()


@dataclass
class _Scan:
    """One walk over the text from an opening brace."""

    end: int | None = None  # just past the closing brace; None: cut off
    stack: list[str] = field(default_factory=list)
    in_string: bool = False
    cuts: list[tuple[int, str]] = field(default_factory=list)  # (keep text up to here, closing brackets to add)
    too_deep: bool = False


def clean(text: str) -> str:
    """Without what UTF-8, JSON or Postgres cannot carry: NUL, control characters, lone surrogates."""
    return _UNPRINTABLE.sub("", text)


def find_object(text: str, known: Collection[str]) -> Found | None:
    """The first object in `text` that has one of the `known` keys (in any case), or None."""
    text = clean(text[:MAX_CHARS]).strip()
    for faults, attempt in (((), text), (("mended",), _mend(text))):
        found = _search(attempt, known)
        if found is not None:
            return Found(found.fields, _notes(text, found) + faults + found.faults)
    return None


def _notes(text: str, found: Found) -> tuple[str, ...]:
    if text.startswith("["):
        return ("array",)
    if "```" in text:
        return ("fenced",)
    return () if text.startswith("{") and (text.endswith("}") or found.faults) else ("surrounded",)


def _search(text: str, known: Collection[str]) -> Found | None:
    start = text.find("{")
    for _ in range(MAX_STARTS):
        if start < 0:
            return None
        scan = _scan(text, start)
        for candidate, faults in _candidates(text, start, scan):
            fields = _unwrap(_load(candidate), known)
            if fields is not None:
                return Found(fields, faults)
        start = text.find("{", start + 1)
    return None


def _scan(text: str, start: int) -> _Scan:
    scan = _Scan()
    for token in _TOKEN.finditer(text, start):
        first = token.group()[0]
        if first == '"':
            scan.in_string = token.end() == len(text) and not _closed(token.group())
        elif first in "{[":
            scan.stack.append("}" if first == "{" else "]")
            scan.cuts.append((token.end(), _closers(scan.stack)))
        elif first == ",":
            scan.cuts.append((token.start(), _closers(scan.stack)))
        elif not scan.stack or scan.stack.pop() != first:
            return _Scan(too_deep=True)  # brackets do not match: not JSON
        if not scan.stack:
            scan.end = token.end()
            return scan
        if len(scan.stack) > MAX_DEPTH:
            return _Scan(too_deep=True)
        del scan.cuts[:-MAX_CUTS]
    return scan


def _closed(string: str) -> bool:
    return len(string) > 1 and string.endswith('"') and not _HALF_ESCAPE.search(string[:-1])


def _closers(stack: list[str]) -> str:
    return "".join(reversed(stack))


def _candidates(text: str, start: int, scan: _Scan) -> Iterator[tuple[str, tuple[str, ...]]]:
    if scan.too_deep:
        return
    if scan.end is not None:
        yield text[start : scan.end], ()
        return
    rest = text[start:].removesuffix("```").rstrip()
    if scan.in_string and scan.stack[-1] == "}":
        yield _HALF_ESCAPE.sub(r"\1", rest) + '"' + _closers(scan.stack), ("truncated",)
    elif not scan.in_string and not rest[-1].isdigit():  # half a number is a wrong number
        yield rest + _closers(scan.stack), ("truncated",)
    for cut, closers in reversed(scan.cuts):
        yield text[start:cut] + closers, ("truncated",)


def _load(candidate: str) -> object:
    try:
        return json.loads(candidate, strict=False, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def _unwrap(value: object, known: Collection[str]) -> dict[str, Any] | None:
    """`value` with plain lower-case keys if it is an answer, or the answer that it wraps as its only field."""
    if not isinstance(value, dict):
        return None
    fields = {clean(str(key)).strip().lower(): item for key, item in value.items()}
    if not fields.keys().isdisjoint(known):
        return fields
    return _unwrap(next(iter(fields.values())), known) if len(fields) == 1 else None


def _mend(text: str) -> str:
    """The text with quotes inside strings escaped and trailing commas dropped: what models most often get wrong."""
    parts: list[str] = []
    inside, kept = False, 0
    for match in _INNER_QUOTE.finditer(text):
        if match.group() != '"':
            continue
        if not inside:
            inside = True
        elif _AFTER_STRING.match(text, match.end()):
            inside = False
        else:
            parts += [text[kept : match.start()], '\\"']
            kept = match.end()
    return _TRAILING_COMMA.sub(r"\1", "".join([*parts, text[kept:]]))
