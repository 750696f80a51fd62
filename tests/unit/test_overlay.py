"""Which labels are marked as taken from the text on a picture."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_app.domain.answer import read_answer
from vision_app.domain.overlay import labels_from_text

NAMES = st.lists(st.text(max_size=12), max_size=5)


@pytest.mark.parametrize(
    ("labels", "objects", "scene", "text", "marked"),
    [
        (["взятка", "мэр"], ["мужчина"], "кабинет", "МЭР ПОЛУЧИЛ ВЗЯТКУ", ["взятка", "мэр"]),
        (["кот", "рыжий"], ["рыжий кот на диване"], None, "КОТ НА ОБЕД", []),
        (["кот"], ["кот"], None, "кот", ["кот"]),
        (["кошка"], ["кошки"], None, "Кошки спят, кошками полон дом", ["кошка"]),
        (["кот"], [], "кот спит на крыше", "кот", []),
        (["кот", "собака"], [], None, None, []),
        (["ложь"], [], None, "ло\u200bжь", ["ложь"]),
        (["ёлка"], [], None, "елка", ["ёлка"]),
        (["ﬁnance"], [], None, "FINANCE", ["ﬁnance"]),
        (["кот"], [], None, "который час", []),
        (["собака"], [], None, "собор", []),
        (["новогодний праздник"], ["ёлка"], None, "С новогодними праздниками!", ["новогодний праздник"]),
        (["новый год"], ["ёлка"], None, "новый дом", []),
    ],
)
def test_marked(labels: list[str], objects: list[str], scene: str | None, text: str | None, marked: list[str]) -> None:
    assert labels_from_text(labels, objects, scene, text) == marked


@given(NAMES, NAMES, st.none() | st.text(max_size=20), st.none() | st.text(max_size=60))
def test_marks_are_labels_in_their_order(
    labels: list[str], objects: list[str], scene: str | None, text: str | None
) -> None:
    marked = labels_from_text(labels, objects, scene, text)
    remaining = iter(labels)
    assert all(label in remaining for label in marked)


@given(st.lists(st.text(alphabet="абвгдежз", min_size=1, max_size=8), min_size=1, max_size=6))
def test_every_label_copied_from_a_text_is_marked(words: list[str]) -> None:
    """Labels, objects and scene all come only from the text."""
    text = " ".join(words)
    assert labels_from_text(words, words, text, text.upper()) == words


def test_an_answer_says_which_of_its_labels_are_only_written() -> None:
    content = (
        '{"classification": "meme", "description": "Кот с подписью", "labels": ["Кот", "Взятка"], '
        '"objects": ["серый кот"], "ocr": {"text": "кот берёт взятки", "engine": "gigachat"}}'
    )
    analysis = read_answer(content).analysis
    assert analysis is not None
    assert analysis.labels == ["кот", "взятка"]
    assert analysis.labels_from_text == ["взятка"]
