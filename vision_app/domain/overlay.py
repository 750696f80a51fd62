"""Finds labels that may come only from text written on the picture.

The publisher of a picture can write on it the labels that the model should give. A label counts as taken from the text
if all its words are written on the picture and neither an object nor the scene supports it. Objects and a scene whose
words are all written on the picture do not count as support. Such labels are kept and named, so that a reader may leave
them out. Only the text that the model reports is checked: if the model does not report it, nothing is found here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

_WORD = re.compile(r"\w+")
_ENDING_CHARS = 3  # what declension may change: праздник, праздниками
_STEM_CHARS = 4  # shorter words must be the same


def labels_from_text(labels: Iterable[str], objects: Sequence[str], scene: str | None, text: str | None) -> list[str]:
    """The labels that only the text on the picture supports, in their order."""
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
    """The visible words: without invisible characters, casefolded, ё replaced by е."""
    visible = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
    return frozenset(_WORD.findall(unicodedata.normalize("NFKC", visible).casefold().replace("ё", "е")))


def _within(words: Collection[str], others: Collection[str]) -> bool:
    """Whether every word is among the others, ignoring endings. True if there are no words."""
    return all(word in others or any(_same(word, other) for other in others) for word in words)


def _same(word: str, other: str) -> bool:
    stem = max(len(word), len(other)) - _ENDING_CHARS
    return word[: max(stem, _STEM_CHARS)] == other[: max(stem, _STEM_CHARS)]
