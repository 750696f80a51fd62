"""Prices in tokens. The vendor publishes no formula: all of them are an ASSUMPTION (docs/simulator.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

CHARS_PER_TOKEN = 4  # the vendor's pages say three to four for Russian; 4 keeps max_tokens arithmetic simple
TOKENS_PER_MESSAGE = 4
IMAGE_BASE_TOKENS = 400
IMAGE_PATCH_PX = 28
IMAGE_PRICED_SIDE_PX = 1024  # a larger picture costs as much as one scaled down to this side
BYTES_PER_DOCUMENT_TOKEN = 40  # of a binary document, whose text the simulator does not read


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. As in recordings of the live service the cached part is inside `prompt` and `total`."""

    prompt: int
    completion: int
    precached: int

    @property
    def total(self) -> int:
        return self.prompt + self.completion


def text_tokens(text: str) -> int:
    return math.ceil(len(text) / CHARS_PER_TOKEN)


def image_tokens(width: int, height: int) -> int:
    """Price of a picture: a base plus one token per 28 px patch after scaling it down to fit into 1024 px."""
    scale = min(1.0, IMAGE_PRICED_SIDE_PX / max(width, height))
    columns = math.ceil(width * scale / IMAGE_PATCH_PX)
    rows = math.ceil(height * scale / IMAGE_PATCH_PX)
    return IMAGE_BASE_TOKENS + columns * rows


def document_tokens(mime: str, data: bytes) -> int:
    if mime == "text/plain":
        return text_tokens(data.decode("utf-8", errors="replace"))
    return max(100, len(data) // BYTES_PER_DOCUMENT_TOKEN)


def truncate(text: str, max_tokens: int) -> str:
    """The longest beginning of `text` that costs at most `max_tokens`."""
    return text[: max_tokens * CHARS_PER_TOKEN]
