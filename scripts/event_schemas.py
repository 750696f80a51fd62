"""Make docs/schemas/*.json from the models of the events: `make reference`, if an event changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel

from vision_app.events.public import AnalyzedEvent, SkippedEvent
from vision_app.messages import DeadLetter, Uploaded

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"
SCHEMAS: dict[str, tuple[type[BaseModel], str]] = {
    "posts_vision_uploaded_v1.json": (
        Uploaded,
        "The field `data` of an entry of an input stream.",
    ),
    "posts_vision_analyzed_v1.json": (AnalyzedEvent, "The field `data` of an entry of the output stream: analyzed."),
    "posts_vision_skipped_v1.json": (SkippedEvent, "The field `data` of an entry of the output stream: skipped."),
    "dead_letter_v1.json": (DeadLetter, "A record of the topic vision.dlq."),
}
"""File → the model and where such a document is found."""


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a file."""
    model, where = SCHEMAS[name]
    made = model.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$comment": where, **made}


def text(name: str) -> bytes:
    """The file's content."""
    return orjson.dumps(schema(name), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in SCHEMAS:
        (FOLDER / name).write_bytes(text(name))
