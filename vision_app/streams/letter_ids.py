"""The ids that a message names, also when it cannot be read: for finding and logging, never for decisions.

A broken message may name anything. So a letter's own fields come from whole JSON only (`dead_letters.py`).
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from vision_app.messages import DeadLetter

from .letter_forms import original

NAMES = ("tenant_id", "post_id", "trace_id")
READ_BYTES = 1_000_000
ID_CHARACTERS = 256

_VALUE = (
    rf'\\{{0,8}}"\s{{0,20}}:\s{{0,20}}\\{{0,8}}"((?:[^"\\]|\\{{1,8}}u[0-9a-fA-F]{{4}}){{1,{ID_CHARACTERS}}})\\{{0,8}}"'
)
_PATTERNS = {name: re.compile(f'"{name}{_VALUE}') for name in NAMES}
"""A field of JSON, or of JSON within a JSON string, whose quotes are escaped."""
_ESCAPE = re.compile(r"\\+u([0-9a-fA-F]{4})")


def ids_in(value: bytes | None) -> dict[str, str]:
    """Tenant, post and trace id in these bytes, each if it can be read. The first of each name counts."""
    text = (value or b"")[:READ_BYTES].decode("utf-8", "replace")
    found = {name: match[1] for name, pattern in _PATTERNS.items() if (match := pattern.search(text))}
    return {name: _unescaped(text) for name, text in found.items()}


def ids_of(letter: DeadLetter) -> dict[str, str]:
    """What a letter says of its ids, completed by what can be read in its bytes and its key."""
    own = {name: value for name in NAMES if (value := getattr(letter, name))}
    key = {"tenant_id": unquote(letter.key.partition(":")[0])} if letter.key else {}
    return key | ids_in(original(letter)) | own


def _unescaped(text: str) -> str:
    units = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    return units.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
