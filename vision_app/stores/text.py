"""Replaces values that stores refuse: NUL characters (Postgres), lone surrogates, huge integers."""

from __future__ import annotations

from typing import Any

MAX_INTEGER = 2**63 - 1


def storable(value: Any) -> Any:
    """The JSON-like value with all its texts, keys and numbers in a form that can be stored."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {storable_text(str(name)): storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        return min(max(value, -MAX_INTEGER), MAX_INTEGER)
    return value


def storable_text(text: str) -> str:
    """The text without NUL characters. What cannot be encoded becomes a question mark."""
    text = text.replace("\0", "")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
