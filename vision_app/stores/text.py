"""Text that databases refuse: NUL characters (Postgres) and lone surrogates (everybody) are taken out."""

from __future__ import annotations

from typing import Any


def storable(value: Any) -> Any:
    """The same JSON-like value with every text, keys included, free of what cannot be stored."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {storable_text(str(name)): storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def storable_text(text: str) -> str:
    text = text.replace("\0", "")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
