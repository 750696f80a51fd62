"""The answers of the simulated model: the JSON that the worker's prompt asks for, made from the attached file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vision_app.simulator import wording
from vision_app.simulator.errors import invalid
from vision_app.simulator.files import StoredFile
from vision_app.simulator.malformed import dump
from vision_app.simulator.ocr import read_text
from vision_app.simulator.pricing import document_tokens, image_tokens
from vision_app.simulator.schema import example
from vision_app.simulator.vision import NotAPicture, Picture, look

_TEXT_KINDS = ("meme", "document", "screenshot", "infographic")


@dataclass(frozen=True, slots=True)
class SimulatedAnswer:
    """An answer before it is billed. `fields` is None for plain text; `attachment_tokens` is the cost of the files."""

    text: str
    fields: dict[str, Any] | None
    attachment_tokens: int


async def answer(
    prompt: str, files: list[StoredFile], max_pixels: int, schema: Mapping[str, Any] | None = None
) -> SimulatedAnswer:
    """Answer a prompt with the given attachments, the newest last. Raises ApiError 422 for an unreadable picture.

    `schema`: of the JSON that is asked for; an answer about a file is JSON of our own fields in any case.
    """
    if not files:
        text = wording.plain_answer(prompt)
        return SimulatedAnswer(text if schema is None else dump(example(schema, text)), None, 0)
    cost = 0
    picture: Picture | None = None
    for file in files:
        picture = await _look(file, max_pixels) if file.type.modality == "image" else None
        cost += document_tokens(file.type.mime, file.data) if picture is None else _price(picture)
    fields = document_answer(files[-1]) if picture is None else picture_answer(picture, await _text(files[-1], picture))
    return SimulatedAnswer(dump(fields), fields, cost)


def picture_answer(picture: Picture, text: str | None) -> dict[str, Any]:
    """The model's JSON about a picture; `text` is the text from OCR, None if it read nothing."""
    return {
        "classification": picture.kind,
        "description": wording.description(picture),
        "is_meme": picture.kind == "meme",
        "labels": wording.labels(picture),
        "objects": wording.objects(picture),
        "ocr": {"text": text, "engine": "gigachat"} if text else None,
        "scene": wording.scene(picture),
        "dominant_colors": list(picture.colors),
        "nsfw_score": 0.0,
        "aesthetic_score": round(picture.aesthetics, 2),
        "context": {"emotions": [], "themes": wording.themes(picture), "relationships": []},
    }


def document_answer(file: StoredFile) -> dict[str, Any]:
    """The model's JSON about an attached text document."""
    text = file.data.decode("utf-8-sig", errors="replace").strip() if file.type.mime == "text/plain" else None
    return {
        "classification": "document",
        "description": wording.document_description(file.type.mime, len(file.data)),
        "is_meme": False,
        "labels": ["документ", "текст"],
        "objects": ["текст"],
        "ocr": {"text": text[:1000], "engine": "gigachat"} if text else None,
        "scene": None,
        "dominant_colors": [],
        "nsfw_score": 0.0,
        "aesthetic_score": None,
        "context": {"emotions": [], "themes": ["документ"], "relationships": []},
    }


async def _look(file: StoredFile, max_pixels: int) -> Picture:
    try:
        return await asyncio.to_thread(look, file.data, max_pixels)
    except NotAPicture as fault:
        raise invalid(str(fault)) from fault


def _price(picture: Picture) -> int:
    return image_tokens(picture.width, picture.height)


async def _text(file: StoredFile, picture: Picture) -> str | None:
    return await read_text(file.data) if picture.kind in _TEXT_KINDS else None
