"""A corpus of typical answers of models, with the expected reading: (name, content, finish reason, expected).

`expected` holds the verdict and the fields that matter in the case. Other fields are not checked.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from vision_app.domain.answer import Reading, read_answer
from vision_app.simulator.refusals import REFUSALS

Case = tuple[str, str, str | None, dict[str, Any]]

CAT: dict[str, Any] = {
    "classification": "photo",
    "description": "Рыжий кот спит на диване",
    "is_meme": False,
    "labels": ["кот", "диван"],
    "objects": ["кот", "плед"],
    "scene": "жилая комната",
    "ocr": {"text": "Ещё не всё: «ёж»", "engine": "gigachat"},
    "nsfw_score": 0.01,
    "aesthetic_score": 0.5,
    "dominant_colors": ["#102030"],
    "context": {"emotions": ["покой"]},
}
OK = {"verdict": "ok", "classification": "photo", "is_meme": False, "description": "Рыжий кот спит на диване"}
PARTIAL = {**OK, "verdict": "partial"}
REFUSED = {"verdict": "refused"}
UNUSABLE = {"verdict": "unusable"}
WHOLE = json.dumps(CAT, ensure_ascii=False)


def changed(**fields: Any) -> str:
    return json.dumps({**CAT, **fields}, ensure_ascii=False)


def without(*names: str) -> str:
    return json.dumps({name: value for name, value in CAT.items() if name not in names}, ensure_ascii=False)


CASES: list[Case] = [
    # as asked
    ("plain", WHOLE, "stop", {**OK, "faults": []}),
    ("indented", json.dumps(CAT, ensure_ascii=False, indent=4), "stop", OK),
    ("ascii escapes", json.dumps(CAT), "stop", OK),
    ("meme", changed(classification="meme", is_meme=True), "stop", {"verdict": "ok", "classification": "meme"}),
    ("no finish reason", WHOLE, None, OK),
    # wrapped
    ("fenced", f"```json\n{WHOLE}\n```", "stop", OK),
    ("fenced without language", f"```\n{WHOLE}\n```", "stop", OK),
    ("fence not closed", f"```json\n{WHOLE}", "stop", OK),
    ("prose around", f"Вот результат анализа:\n{WHOLE}\nНадеюсь, это поможет!", "stop", OK),
    ("braces in the prose", f"Шаблон {{ответа}} таков: {WHOLE}", "stop", OK),
    ("array of one", f"[{WHOLE}]", "stop", OK),
    ("wrapped in a field", json.dumps({"result": CAT}, ensure_ascii=False), "stop", OK),
    ("string of JSON", json.dumps(WHOLE, ensure_ascii=False), "stop", OK),
    ("byte order mark", f"\ufeff{WHOLE}", "stop", OK),
    ("two objects", f"{WHOLE}\n{changed(description='Второй вариант')}", "stop", OK),
    ("keys in capitals", WHOLE.replace('"classification"', '"Classification"'), "stop", OK),
    ("UTF-8 read as Latin-1", WHOLE.encode().decode("latin-1"), "stop", OK),
    # cut off
    ("cut in a string", WHOLE[: WHOLE.index("на диване")], "length", {**PARTIAL, "description": "Рыжий кот спит"}),
    ("cut in a key", WHOLE[: WHOLE.index('cts": [')], "length", PARTIAL),
    ("cut after a colon", WHOLE[: WHOLE.index(' ["кот", "плед"]')], "length", PARTIAL),
    ("cut in a list", WHOLE[: WHOLE.index('лед"]')], "length", {**PARTIAL, "objects": ["кот"]}),
    ("cut in a nested object", WHOLE[: WHOLE.index(', "engine"')], "length", {**PARTIAL, "ocr": "Ещё не всё: «ёж»"}),
    ("cut in a number", WHOLE[: WHOLE.index("1, ")], "length", {**PARTIAL, "nsfw_score": None}),
    ("cut before the last brace", WHOLE[:-1], "length", PARTIAL),
    ("cut in an escape", json.dumps(CAT)[:75], "length", {"verdict": "partial", "classification": "photo"}),
    ("cut fenced", f"```json\n{WHOLE[:-40]}\n```", "length", PARTIAL),
    ("cut before a description", WHOLE[:35], "length", UNUSABLE),
    # written badly
    ("trailing comma", WHOLE[:-1] + ", }", "stop", OK),
    ("comments", "{ // разбор\n" + WHOLE[1:-1] + " /* конец */ }", "stop", OK),
    ("python", repr(CAT), "stop", OK),
    ("raw newline", WHOLE.replace("спит на", "спит\nна"), "stop", {**OK, "description": "Рыжий кот спит\nна диване"}),
    (
        "quotes inside",
        WHOLE.replace("Рыжий кот", 'Кот "Рыжик"'),
        "stop",
        {"verdict": "partial", "classification": "photo"},
    ),
    ("NaN", WHOLE.replace("0.01", "NaN"), "stop", {**OK, "nsfw_score": None}),
    ("deep nesting", WHOLE[:-1] + ', "extra": ' + "[" * 2000 + "]" * 2000 + "}", "stop", PARTIAL),
    # fields
    ("capital kind", changed(classification="Photo"), "stop", OK),
    ("kind in Russian", changed(classification="Фотография"), "stop", OK),
    ("kind as object", changed(classification={"type": "photo", "confidence": 0.9}), "stop", {**OK, "confidence": 0.9}),
    ("unknown kind", changed(classification="картина"), "stop", {**PARTIAL, "classification": "other"}),
    ("kind of two", changed(classification="photo|meme"), "stop", {**PARTIAL, "classification": "other"}),
    ("kind missing", without("classification"), "stop", {**PARTIAL, "classification": "other"}),
    ("context null", changed(context=None), "stop", {**OK, "context": {}}),
    ("context a list", changed(context=["покой"]), "stop", {**OK, "context": {}}),
    ("context huge", changed(context={"x": "я" * 50_000}), "stop", {**OK, "context": {}}),
    ("ocr as string", changed(ocr="Привет, ёж"), "stop", {**OK, "ocr": "Привет, ёж"}),
    ("ocr empty", changed(ocr={"text": "  ", "engine": "gigachat"}), "stop", {**OK, "ocr": None}),
    ("ocr says none", changed(ocr="нет текста"), "stop", {**OK, "ocr": None}),
    ("ocr a number", changed(ocr={"text": 5}), "stop", {**PARTIAL, "ocr": None}),
    ("meme flag as word", changed(is_meme="нет"), "stop", OK),
    ("meme flag absurd", changed(is_meme="возможно"), "stop", OK),
    ("meme flag missing", without("is_meme"), "stop", OK),
    ("labels as string", changed(labels="Кот, диван"), "stop", {**OK, "labels": ["кот", "диван"]}),
    ("labels repeated", changed(labels=[" Кот", "кот", "КОТ "]), "stop", {**OK, "labels": ["кот"]}),
    ("30 labels", changed(labels=[f"л{n}" for n in range(30)]), "stop", {**OK, "labels": [f"л{n}" for n in range(20)]}),
    ("labels as objects", changed(labels=[{"name": "кот"}, 5, None]), "stop", {**OK, "labels": ["кот"]}),
    ("labels null", changed(labels=None), "stop", {**OK, "labels": []}),
    ("objects a number", changed(objects=7), "stop", {**PARTIAL, "objects": []}),
    (
        "15 objects",
        changed(objects=[f"п{n}" for n in range(15)]),
        "stop",
        {**OK, "objects": [f"п{n}" for n in range(10)]},
    ),
    ("six colours", changed(dominant_colors=[f"#00000{n}" for n in range(6)]), "stop", {**OK, "colors": 5}),
    ("bad colours", changed(dominant_colors=["красный", "#FFF", "#00ff00"]), "stop", {**OK, "colors": 1}),
    ("score too large", changed(nsfw_score=7), "stop", {**OK, "nsfw_score": None}),
    ("score with comma", changed(nsfw_score="0,25"), "stop", {**OK, "nsfw_score": 0.25}),
    ("score true", changed(nsfw_score=True), "stop", {**OK, "nsfw_score": None}),
    ("score infinite", WHOLE.replace("0.01", "1e999"), "stop", {**OK, "nsfw_score": None}),
    ("short description", changed(description="Кот"), "stop", {**PARTIAL, "description": "жилая комната"}),
    (
        "no description",
        without("description", "scene"),
        "stop",
        {**PARTIAL, "description": "На изображении: кот, плед"},
    ),
    ("nothing but a kind", '{"classification": "photo"}', "stop", UNUSABLE),
    ("NUL and surrogates", changed(description="Рыжий кот\x00 спит\ud800 на диване"), "stop", OK),
    # no answer
    ("empty", "", "stop", UNUSABLE),
    ("blank", " \n\t", "stop", UNUSABLE),
    ("null", "null", "stop", UNUSABLE),
    ("empty object", "{}", "stop", UNUSABLE),
    ("other object", '{"status": 429, "message": "Too many requests"}', "stop", UNUSABLE),
    ("prose", "На картинке рыжий кот спит на диване. Это не мем и не документ.", "stop", UNUSABLE),
    ("web page", "<html><body>502 Bad Gateway</body></html>", "stop", UNUSABLE),
    # refusals
    ("blacklist", REFUSALS["blacklist"][0], "blacklist", REFUSED),
    ("blacklist with JSON", WHOLE, "blacklist", REFUSED),
    ("blacklist text only", REFUSALS["blacklist"][0], "stop", REFUSED),
    ("polite", REFUSALS["polite"][0], "stop", REFUSED),
    ("cannot see", REFUSALS["cannot_see"][0], "stop", REFUSED),
    ("no access", "У меня нет доступа к изображению, опишите его, пожалуйста.", "stop", REFUSED),
    ("asks for the picture", "Пожалуйста, прикрепите изображение, и я его опишу.", "stop", REFUSED),
    ("not attached", "Изображение не было загружено.", "stop", REFUSED),
    ("change of topic", "Не люблю менять тему разговора, но вот сейчас тот самый случай.", "stop", REFUSED),
    ("confused", "Что-то в вашем вопросе меня смущает. Может, поговорим на другую тему?", "stop", REFUSED),
    ("English", "I'm sorry, but I can't assist with that request.", "stop", REFUSED),
    ("English cannot see", "I cannot see any image attached to this message.", "stop", REFUSED),
    ("refusal inside", changed(description="Я не вижу изображение, загрузите его.", ocr=None), "stop", REFUSED),
    # looks like a refusal and is not one
    ("quotes a refusal", changed(description="Скриншот: бот пишет «я не могу помочь»"), "stop", {"verdict": "ok"}),
    ("about AI", changed(description="Статья о том, что ИИ не вижу смысла бояться"), "stop", {"verdict": "ok"}),
    ("refusal as OCR", changed(ocr={"text": "Извините, я не могу описать это изображение"}), "stop", OK),
]


@pytest.mark.parametrize(("content", "reason", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_corpus(content: str, reason: str | None, expected: dict[str, Any]) -> None:
    found = seen(read_answer(content, reason))
    assert {name: found.get(name) for name in expected} == expected


def test_each_case_has_its_own_name() -> None:
    assert len({case[0] for case in CASES}) == len(CASES)


def seen(reading: Reading) -> dict[str, Any]:
    analysis = reading.analysis
    fields = {"verdict": reading.verdict, "faults": reading.faults}
    if analysis is None:
        return fields
    ocr, colors = analysis.ocr and analysis.ocr.text, len(analysis.dominant_colors)
    return {**analysis.model_dump(), **fields, "ocr": ocr, "colors": colors}
