"""Values in Java's properties files, which Java reads as Latin-1."""

from __future__ import annotations


def escaped_property(value: str) -> str:
    r"""As Java's properties escape: `\\`, line breaks, a space in front, and what is not ASCII as `\uXXXX`."""
    text = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    text = f"\\{text}" if text.startswith(" ") else text
    units = text.encode("utf-16-be")
    codes = (int.from_bytes(units[place : place + 2], "big") for place in range(0, len(units), 2))
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)
