"""The estimate of a call, and the required content of every prompt."""

from __future__ import annotations

from importlib import resources

import pytest

from vision_app.prompts import PROMPT_KEYS, PROMPT_VERSION, VISION_VERSION, prompt
from vision_app.providers.pictures import estimate_tokens
from vision_app.settings import load_settings

SETTINGS = load_settings()


def test_the_estimate_is_above_what_was_observed_and_simulated() -> None:
    assert estimate_tokens(50_000, "image/jpeg", SETTINGS) >= 2599  # the assistant's log, one 1024 px picture
    assert estimate_tokens(10, "image/PNG", SETTINGS) == estimate_tokens(10**7, "image/png", SETTINGS)
    assert estimate_tokens(50_000, "image/png", load_settings(vision_preprocess_max_dim=2048)) > 5000
    assert estimate_tokens(10_000, "text/plain", SETTINGS) > 5000
    for declared in ("text/plain", "", "application/pdf", "application/octet-stream"):
        assert estimate_tokens(10, declared, SETTINGS) == estimate_tokens(10, "image/png", SETTINGS), declared
    assert estimate_tokens(40_000_000, "application/pdf", SETTINGS) < 130_000


@pytest.mark.parametrize("key", PROMPT_KEYS)
def test_prompts_name_every_field_and_that_text_is_data(key: str) -> None:
    text = prompt(key)
    for name in ("classification", "description", "is_meme", "labels", "objects", "ocr", "infographic", "инструкции"):
        assert name in text
    assert prompt(key) == text
    assert (resources.files("vision_app.prompts") / f"{key}.txt").is_file()


def test_versions_and_unknown_keys() -> None:
    assert VISION_VERSION.endswith(f"#{PROMPT_VERSION}")
    assert prompt("../../etc/passwd") == prompt("default")
