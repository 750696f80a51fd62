"""Makes docs/answers.md from the corpus: `python -m tests.answers_table` after a change of corpus or reader."""

from __future__ import annotations

from pathlib import Path

from tests.unit.test_answer_corpus import CASES
from vision_app.domain.answer import Reading, read_answer

PAGE = Path(__file__).parents[1] / "docs" / "answers.md"
HEAD = """# How answers are read

What the model writes is read by `vision_app/domain/answer.py`: fences and prose around the JSON are taken off, broken
JSON is mended as far as it says something, each field is checked by itself and dropped when it is of no use. Nothing is
guessed from words in the text, so a broken answer never becomes a meme, a refusal never becomes a document, and
Cyrillic stays Cyrillic.

* **ok**: stored for as long as the object lives. **partial**: shown and marked, asked again after 24 h.
* **refused**, **unusable**: paid, stored for 24 h so that the same picture is not paid for again, never shown as an
  analysis. An unusable answer is first given back to the model once, to be put into form, under a grant of its own;
  then OCR if the policy allows it, otherwise the medium is failed.

The corpus (`tests/unit/test_answer_corpus.py`), as read; the table is checked by a test.

| case | verdict | kind | mended or dropped |
|---|---|---|---|
"""


def page() -> str:
    return HEAD + "".join(_line(name, read_answer(content, reason)) for name, content, reason, _ in CASES)


def _line(name: str, reading: Reading) -> str:
    kind = reading.analysis.classification if reading.analysis else "–"
    return f"| {name} | {reading.verdict} | {kind} | {', '.join(reading.faults) or '–'} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
