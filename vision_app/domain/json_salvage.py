"""Finds the JSON object in a model's answer: whole, wrapped in prose or cut off.

It handles only syntax; `answer.py` reads the fields. The work is linear in the text and bounded in depth, because the
text is untrusted.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_CHARS = 500_000  # an answer of 512 tokens has about 2,000; OCR text alone may be 100,000
MAX_DEPTH = 32
MAX_STARTS = 16  # opening braces tried as the beginning of the answer
MAX_CUTS = 12  # places tried as the end of a truncated answer
MAX_CUT_DEPTH = 4  # an answer's own fields nest three deep
MAX_PYTHON_CHARS = 50_000

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[{}\[\],]', re.DOTALL)
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff"
    "\x80-\x9f"  # control characters too: \x9b begins a command to a terminal
    "\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069"  # they reverse the direction of the following text: gpj.exe
    "\U000e0000-\U000e007f]"  # letters that people do not see but a model reads
)
_INNER_QUOTE = re.compile(r'\\.|"', re.DOTALL)
_AFTER_STRING = re.compile(r"\s*(?:[,:}\]]|\Z)")
_UNTIDY = re.compile(r'("[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z))|,(?=\s*[}\]])|//[^\n]*|/\*.*?\*/', re.DOTALL)
_HALF_ESCAPE = re.compile(r"(?<!\\)((?:\\\\)*)\\(?:u[0-9a-fA-F]{0,3})?\Z")


@dataclass(frozen=True)
class Found:
    """An object and what was done to read it.

    Harmless: fenced, surrounded (by prose), array, quoted, mojibake, tidied (commas, comments), python (its literals).
    `truncated` and `mended` (quotes inside strings) mean that something may be missing or wrong.
    """

    fields: dict[str, Any]
    faults: tuple[str, ...] = ()


@dataclass
class _Scan:
    """One walk over the text from an opening brace."""

    end: int | None = None  # just past the closing brace; None: cut off
    stack: list[str] = field(default_factory=list)
    in_string: bool = False
    cuts: list[tuple[int, str]] = field(default_factory=list)  # (keep text up to here, closing brackets to add)
    broken: bool = False  # too deep, or brackets that do not match


def clean(text: str) -> str:
    """The text without characters that UTF-8, JSON or Postgres cannot carry, or that make it look different."""
    return _UNPRINTABLE.sub("", text)


def find_object(text: str, known: Collection[str]) -> Found | None:
    """The first object in `text` that has one of the `known` keys (in any case), or None."""
    text, notes = _plain(text[:MAX_CHARS])
    tidy, mended = _UNTIDY.sub(r"\1", text), _UNTIDY.sub(r"\1", _escape_inner_quotes(text))
    for attempt, fault in ((text, ()), (tidy, ("tidied",)), (mended, ("mended",))):
        found = _search(attempt, known)
        if found is not None:
            return Found(found.fields, (*notes, *_notes(text, found), *fault, *found.faults))
    fields = _unwrap(_python(text), known)
    return None if fields is None else Found(fields, (*notes, "python"))


def _plain(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without wrappings that hide it whole: UTF-8 read as Latin-1, JSON inside a JSON string."""
    notes: list[str] = []
    restored = _restored(text)
    if restored is not None:
        text = restored
        notes.append("mojibake")
    text = clean(text).strip().removeprefix("\ufeff").strip()
    inner = _load(text) if text.startswith('"') else None
    if isinstance(inner, str):
        text = clean(inner).strip()
        notes.append("quoted")
    return text, tuple(notes)


def _restored(text: str) -> str | None:
    if text.isascii():
        return None
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
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
            _mark(scan, token.end())
        elif first == ",":
            _mark(scan, token.start())
        elif not scan.stack or scan.stack.pop() != first:
            scan.broken = True
            return scan
        if not scan.stack:
            scan.end = token.end()
            return scan
        if len(scan.stack) > MAX_DEPTH:
            scan.broken = True
            return scan
    return scan


def _mark(scan: _Scan, position: int) -> None:
    if len(scan.stack) <= MAX_CUT_DEPTH:
        scan.cuts.append((position, _closers(scan.stack)))
        del scan.cuts[:-MAX_CUTS]


def _closed(string: str) -> bool:
    return len(string) > 1 and string.endswith('"') and not _HALF_ESCAPE.search(string[:-1])


def _closers(stack: list[str]) -> str:
    return "".join(reversed(stack))


def _candidates(text: str, start: int, scan: _Scan) -> Iterator[tuple[str, tuple[str, ...]]]:
    if scan.end is not None:
        yield text[start : scan.end], ()
        return
    rest = text[start:].removesuffix("```").rstrip()
    if scan.broken:
        pass
    elif scan.in_string and scan.stack[-1] == "}":
        yield _HALF_ESCAPE.sub(r"\1", rest) + '"' + _closers(scan.stack), ("truncated",)
    elif not scan.in_string and not rest[-1].isdigit():  # a number that was cut off would be wrong
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


def _escape_inner_quotes(text: str) -> str:
    """The text with quotes inside strings escaped: a quote ends a string only before a comma, colon or bracket."""
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
    return "".join([*parts, text[kept:]])


def _python(text: str) -> object:
    """A Python dictionary, which models write when they were shown one: single quotes, None, True."""
    start, end = text.find("{'"), text.rfind("}")
    if start < 0 or end - start > MAX_PYTHON_CHARS:
        return None
    try:
        return ast.literal_eval(text[start : end + 1])
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
