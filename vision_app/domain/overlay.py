"""Which labels a picture's own text puts into the model's mouth.

Whoever publishes a picture can write on it what he wants it to be filed under. A label counts as taken from the text
when every word of it stands on the picture and nothing else of the answer bears it out: no object, and not the scene,
unless these too are only what is written. Such labels stay, and are named, so that a reader may leave them out. This
sees only the text that the model reports: a model that hides the text it obeyed is not found out here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

_WORD = re.compile(r"\w+")
_ENDING_CHARS = 3  # what declension may change: праздник, праздниками
_STEM_CHARS = 4  # shorter words must be the same


def labels_from_text(labels: Iterable[str], objects: Sequence[str], scene: str | None, text: str | None) -> list[str]:
    """The labels that only the text on the picture bears out, in their order."""
    if not text:
        return []
    written = _words(text)
    seen = [_words(name) for name in (*objects, scene or "") if not _within(_words(name), written)]
    return [
        label
        for label in labels
        if _within(words := _words(label), written) and not any(_within(words, other) for other in seen)
    ]


def _words(text: str) -> frozenset[str]:
    """The words as a reader sees them: without invisible characters, in one case, with one spelling of ё."""
    visible = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    return frozenset(_WORD.findall(unicodedata.normalize("NFKC", visible).casefold().replace("ё", "е")))


def _within(words: Collection[str], others: Collection[str]) -> bool:
    """Whether every word is among the others, endings aside. No words are within anything."""
    return all(word in others or any(_same(word, other) for other in others) for word in words)


def _same(word: str, other: str) -> bool:
    stem = max(len(word), len(other)) - _ENDING_CHARS
    return word[: max(stem, _STEM_CHARS)] == other[: max(stem, _STEM_CHARS)]
