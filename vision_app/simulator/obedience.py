"""A model that treats the text on a picture as instructions: the worst case of an injection."""

from __future__ import annotations

from typing import Any, Literal

from vision_app.simulator.malformed import dump

How = Literal["answer", "fields"]


def obey(text: str | None, how: How, fields: dict[str, Any]) -> str:
    """The answer of a model that obeys `text`, or the text read from the picture; unchanged if there is none."""
    written = text if text is not None else (fields.get("ocr") or {}).get("text")
    if not written:
        return dump(fields)
    return written if how == "answer" else dump({**fields, **_everywhere(written)})


def _everywhere(text: str) -> dict[str, Any]:
    return {
        "description": text,
        "labels": [text, *text.split()[:10]],
        "objects": [text],
        "scene": text,
        "ocr": {"text": text, "engine": text},
        "context": {"emotions": [text], text: text},
    }
