"""docs/hostile-inputs.md lists the cases of the corpora and the results of the tests."""

from __future__ import annotations

import re

from tests.hostile_table import PAGE, page
from vision_app.providers import decoders, decoding
from vision_app.settings import Settings


def test_the_page_is_made_from_the_corpora() -> None:
    assert PAGE.read_text("utf-8") == page(), "run python -m tests.hostile_table"


def test_its_figures_are_the_limits_in_force() -> None:
    text = page()
    assert f"{Settings.model_fields['vision_decoding_memory_mb'].default:,} MiB" in text
    assert f"| {Settings.model_fields['vision_decoding_timeout'].default} s (" in text
    assert f"| {decoders.PICTURES_PER_CHILD} |" in text
    assert f"| {decoding.MAX_PIXELS // 10**6} million" in text
    assert f"{decoding.MAX_SENT_IMAGE_BYTES:,} bytes" in text
    assert f"{decoding.MAX_UNPACKED_BYTES // 10**6} MB unpacked" in text
    assert f"{decoding.MAX_ZIP_ENTRIES:,} parts" in text


def test_every_test_that_it_names_is_there() -> None:
    for path in re.findall(r"tests/[\w/]+\.py", page()):
        assert (PAGE.parents[1] / path).is_file(), path
