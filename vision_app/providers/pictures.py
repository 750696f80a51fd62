"""Estimates the tokens that a call about a picture or document costs at most. It reads no picture."""

from __future__ import annotations

import math

from vision_app.prompts import PROMPT_KEYS, prompt
from vision_app.settings import Settings

# Tokens. The vendor publishes no price of a picture; only `usage` has it. An observed call with a 1024 px picture cost
# 2599 tokens in all, above the 1792 that the assistant used to assume. So the estimate counts one token per 28 px patch
# and a base, two characters of the prompt per token (four are usual), and all that the model may write.
_PATCH_PX = 28
_IMAGE_BASE_TOKENS = 400
_UNSCALED_SIDE_PX = 2048  # assumed when scaling is switched off
_CHARS_PER_TOKEN = 2
_BYTES_PER_DOCUMENT_TOKEN = 2
_CONTEXT_TOKENS = 128_000  # the input of a call cannot exceed the model's window


def estimate_tokens(size_bytes: int, mime_type: str, settings: Settings) -> int:
    """Upper bound of what one call about such a medium costs: picture or document, prompt and answer together.

    For pictures it does not depend on `size_bytes`: a small file may hold many pixels, and all are scaled to
    `vision_preprocess_max_dim`. For documents it is one token per two bytes, at most the model's window. A medium
    declared as another type may be a picture, so the estimate is never lower than for one. A document declared as a
    picture is recognised when it is read; the analyst then asks for more (`vision_app/analysis/analyst.py`).
    """
    prompt_tokens = max(len(prompt(key)) for key in PROMPT_KEYS) // _CHARS_PER_TOKEN
    side = settings.vision_preprocess_max_dim if settings.vision_preprocess_enabled else _UNSCALED_SIDE_PX
    attached = math.ceil(side / _PATCH_PX) ** 2
    if not mime_type.strip().lower().startswith("image/"):
        attached = max(attached, size_bytes // _BYTES_PER_DOCUMENT_TOKEN)
    attached += _IMAGE_BASE_TOKENS
    return min(attached + prompt_tokens, _CONTEXT_TOKENS) + settings.vision_max_output_tokens


def estimate_text_tokens(prompt_text: str, settings: Settings) -> int:
    """Upper bound of what a call without a picture costs, answer included."""
    return len(prompt_text) // _CHARS_PER_TOKEN + settings.vision_max_output_tokens
