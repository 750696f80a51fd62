"""docs/answers.md says what the reader does today."""

from __future__ import annotations

from tests.answers_table import PAGE, page


def test_the_page_is_what_the_reader_does() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.answers_table"


def test_nothing_broken_becomes_a_meme() -> None:
    """In the corpus the only meme is the one that says so."""
    memes = [line.split(" | ")[0].strip("| ") for line in page().splitlines() if "| meme |" in line]
    assert memes == ["meme"]
