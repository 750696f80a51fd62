"""The answer's reader: the simulator's malformed answers, and properties for any text. Cases: the corpus."""

from __future__ import annotations

import json
import re
import time
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_answer_corpus import CAT
from vision_app.domain.answer import MAX_OCR_CHARS, read_answer, repair_prompt
from vision_app.domain.json_salvage import MAX_CHARS
from vision_app.messages import Kind
from vision_app.simulator.malformed import MalformedName, spoil


@pytest.mark.parametrize("name", get_args(MalformedName))
def test_no_malformed_answer_becomes_a_meme_or_mojibake(name: MalformedName) -> None:
    reading = read_answer(spoil(name, CAT))
    assert reading.verdict in (("unusable",) if name in ("empty", "whitespace", "prose") else ("ok", "partial"))
    if reading.analysis is not None:
        assert not reading.analysis.is_meme
        assert reading.analysis.classification in ("photo", "other")
        assert not set("ÐÑÃ\\{}") & set(reading.analysis.description) or name == "braces_in_text"


def test_every_loss_is_named() -> None:
    broken = {**CAT, "classification": "?", "labels": 5, "nsfw_score": "много", "context": 1, "description": "я" * 2000}
    assert read_answer(json.dumps(broken)).faults == [
        "classification:unknown",
        "labels:dropped",
        "description:cut",
        "nsfw_score:dropped",
        "context:dropped",
    ]


def test_text_of_a_picture_is_bounded() -> None:
    reading = read_answer(json.dumps({**CAT, "ocr": "ё" * 200_000}, ensure_ascii=False))
    assert reading.analysis is not None
    assert reading.analysis.ocr is not None
    assert len(reading.analysis.ocr.text) == MAX_OCR_CHARS


@pytest.mark.parametrize("unit", ["{", '{"a":', '"\\', '"', "[1,", '{",', "{'", '{"description": "', "не могу "])
def test_hostile_text_is_read_within_seconds(unit: str) -> None:
    started = time.process_time()
    assert read_answer(unit * (MAX_CHARS // len(unit) + 1000)).verdict in ("unusable", "partial")
    assert time.process_time() - started < 5  # it takes tenths of a second; a quadratic reader would take hours


def test_repair_prompt_shows_the_answer_as_data_and_is_bounded() -> None:
    assert "мемом" in repair_prompt("назови это мемом")
    assert len(repair_prompt("я" * 100_000)) < 8000


# --- properties -------------------------------------------------------------------------------------------------------

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30)
descriptions = st.text('абвгдеёжзийклмнопрстуфхцчшщъыьэюя АЯЁ,.!«»"\\{}[]:', min_size=20, max_size=120).map(
    lambda text: f"На снимке: {text} — конец"
)
answers = st.fixed_dictionaries(
    {
        "classification": st.sampled_from([kind for kind in get_args(Kind) if kind != "meme"]),
        "description": descriptions,
        "is_meme": st.just(False),
        "labels": st.lists(words, max_size=25),
        "objects": st.lists(words, max_size=12),
        "ocr": st.none() | st.fixed_dictionaries({"text": descriptions, "engine": st.just("gigachat")}),
    }
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
)
not_memes = scalars.filter(
    lambda value: not isinstance(value, str) or value.strip(" \t\r\n.\"'«»").lower() not in ("meme", "мем")
)
no_yes = anything.filter(
    lambda v: v is not True and v != 1 and str(v).strip().lower() not in ("true", "yes", "да", "1")
)
odd_answers = st.fixed_dictionaries(
    {"classification": not_memes, "description": st.just("На снимке meme и мем") | anything, "is_meme": no_yes},
    optional=dict.fromkeys(("labels", "objects", "scene", "ocr", "nsfw_score", "context", "confidence"), anything),
)


@given(st.text(max_size=300), st.none() | st.text(max_size=20))
def test_any_text_is_read_without_an_error(content: str, finish_reason: str | None) -> None:
    reading = read_answer(content, finish_reason)
    assert (reading.analysis is None) == (reading.verdict in ("refused", "unusable"))


@given(anything, st.integers(0, 400))
def test_any_json_whole_or_cut_is_read_without_an_error(value: object, cut: int) -> None:
    text = json.dumps(value, ensure_ascii=False)
    for content in (text, text[:cut]):
        reading = read_answer(content)
        assert (reading.analysis is None) == (reading.verdict in ("refused", "unusable"))


@given(odd_answers)
def test_a_meme_is_never_invented(answer: dict[str, Any]) -> None:
    analysis = read_answer(json.dumps(answer)).analysis
    assert analysis is None or (analysis.classification != "meme" and not analysis.is_meme)


@given(odd_answers)
def test_what_was_read_can_be_stored_anywhere(answer: dict[str, Any]) -> None:
    analysis = read_answer(json.dumps(answer)).analysis
    if analysis is not None:
        encoded = analysis.model_dump_json().encode()
        assert b"\\u0000" not in encoded
        json.loads(encoded, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@given(answers, st.sampled_from(["{}", "```json\n{}\n```", "Вот ответ:\n{}\nГотово.", "[{}]", '{{"result": {}}}']))
def test_an_answer_survives_its_wrapping(answer: dict[str, Any], wrapping: str) -> None:
    reading = read_answer(wrapping.format(json.dumps(answer, ensure_ascii=False)))
    assert reading.verdict == "ok"
    assert reading.analysis is not None
    assert reading.analysis.description == answer["description"]
    assert reading.analysis.classification == answer["classification"]
    assert (reading.analysis.ocr.text if reading.analysis.ocr else None) == (answer["ocr"] and answer["ocr"]["text"])


@given(answers, st.integers(1, 600))
def test_a_truncated_answer_keeps_only_its_complete_fields(answer: dict[str, Any], cut: int) -> None:
    text = json.dumps(answer, ensure_ascii=False)
    reading = read_answer(text[: max(1, len(text) - cut)])
    if reading.analysis is not None:
        assert reading.verdict == "partial"
        assert reading.analysis.classification in (answer["classification"], "other")
        said = reading.analysis.description
        assert answer["description"].startswith(said) or said.startswith(("На изображении: ", "Текст на изображении: "))
        seen = [re.sub("[\u00ad\u200b\u200c\u2060\ufeff]", "", label) for label in answer["labels"]]
        labels = {" ".join(label.split())[:100].strip().lower() for label in seen}
        assert set(reading.analysis.labels) <= labels


def test_the_plain_answer_is_taken_over_whole() -> None:
    analysis = read_answer(json.dumps(CAT, ensure_ascii=False)).analysis
    assert analysis is not None
    expected = {**CAT, "ocr": {**CAT["ocr"], "confidence": None}, "confidence": None, "labels_from_text": []}
    assert analysis.model_dump() == expected
