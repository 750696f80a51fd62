"""Malformed answers by name. Each function takes the real answer and returns a broken one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal, get_args

Answer = dict[str, Any]

MalformedName = Literal[
    "truncated",
    "truncated_in_string",
    "fenced",
    "fenced_with_prose",
    "capitalised_classification",
    "unknown_classification",
    "missing_classification",
    "null_context",
    "ocr_string",
    "top_level_array",
    "top_level_string",
    "wrapped",
    "empty",
    "whitespace",
    "prose",
    "two_objects",
    "wrong_types",
    "six_colours",
    "bad_colours",
    "scores_out_of_range",
    "short_description",
    "long_description",
    "single_quotes",
    "trailing_comma",
    "comments",
    "nan",
    "raw_newlines",
    "escaped_cyrillic",
    "mojibake",
    "bom",
    "braces_in_text",
    "deep_nesting",
    "huge",
]


def spoil(name: MalformedName, answer: Answer) -> str:
    """`answer`, broken in the way called `name`."""
    return _SPOILERS[name](answer)


def dump(answer: Any) -> str:
    return json.dumps(answer, ensure_ascii=False)


def _with(**changes: Any) -> Callable[[Answer], str]:
    return lambda answer: dump({**answer, **changes})


def _without(key: str) -> Callable[[Answer], str]:
    return lambda answer: dump({name: value for name, value in answer.items() if name != key})


def _prose(answer: Answer) -> str:
    return f"На изображении представлено следующее. {answer['description']} Классификация: {answer['classification']}."


def _truncated(answer: Answer) -> str:
    text = dump(answer)
    return text[: text.index('"objects"') + 11]


def _truncated_in_string(answer: Answer) -> str:
    text = dump(answer)
    return text[: text.index(answer["description"]) + len(answer["description"]) // 2]


def _ocr_text(answer: Answer) -> str:
    return str((answer.get("ocr") or {}).get("text") or "Текст на изображении")


_WRONG_TYPES: Answer = {
    "is_meme": "нет",
    "labels": "кот, фото",
    "objects": {"0": "кот"},
    "dominant_colors": "#FF0000",
    "nsfw_score": "0,1",
    "aesthetic_score": True,
    "context": [],
}

_SPOILERS: dict[MalformedName, Callable[[Answer], str]] = {
    "truncated": _truncated,
    "truncated_in_string": _truncated_in_string,
    "fenced": lambda a: f"```json\n{json.dumps(a, ensure_ascii=False, indent=2)}\n```",
    "fenced_with_prose": lambda a: f"Вот результат анализа:\n\n```json\n{dump(a)}\n```\n\nНадеюсь, это поможет!",
    "capitalised_classification": lambda a: dump({**a, "classification": str(a["classification"]).capitalize()}),
    "unknown_classification": _with(classification="картина маслом"),
    "missing_classification": _without("classification"),
    "null_context": _with(context=None),
    "ocr_string": lambda a: dump({**a, "ocr": _ocr_text(a)}),
    "top_level_array": lambda a: dump([a]),
    "top_level_string": lambda a: dump(dump(a)),
    "wrapped": lambda a: dump({"result": a}),
    "empty": lambda _: "",
    "whitespace": lambda _: " \n\t\n",
    "prose": _prose,
    "two_objects": lambda a: f"{dump(a)}\n{dump({**a, 'description': 'Второй вариант описания'})}",
    "wrong_types": lambda a: dump({**a, **_WRONG_TYPES}),
    "six_colours": _with(dominant_colors=["#102030", "#405060", "#708090", "#A0B0C0", "#D0E0F0", "#FFFFFF"]),
    "bad_colours": _with(dominant_colors=["красный", "#FFF", "rgb(1,2,3)", "#12345G", "#00FF00"]),
    "scores_out_of_range": _with(nsfw_score=7, aesthetic_score=-1.5),
    "short_description": _with(description="Кот"),
    "long_description": lambda a: dump({**a, "description": (str(a["description"]) + " ") * 20}),
    "single_quotes": lambda a: repr(a),
    "trailing_comma": lambda a: dump(a)[:-1] + ", }",
    "comments": lambda a: "{ // разбор изображения\n" + dump(a)[1:-1] + " /* конец */ }",
    "nan": lambda a: dump({**a, "nsfw_score": float("nan")}),
    "raw_newlines": lambda a: dump({**a, "description": "Первая строка|вторая"}).replace("|", "\n"),
    # A repair by unicode_escape turns the unescaped half of this into mojibake.
    "escaped_cyrillic": lambda a: json.dumps(a)[:-1] + ', "ocr": {"text": "Ещё не всё", "engine": "gigachat"',
    "mojibake": lambda a: dump(a).encode("utf-8").decode("latin-1"),
    "bom": lambda a: "\ufeff" + dump(a),
    "braces_in_text": lambda a: "Шаблон {ответа}: " + dump({**a, "description": 'Скобки { и } и "кавычки" в тексте'}),
    "deep_nesting": lambda a: dump(a)[:-1] + ', "extra": ' + "[" * 2000 + "]" * 2000 + "}",
    "huge": lambda a: dump({**a, "ocr": {"text": "Очень длинный текст. " * 20_000, "engine": "gigachat"}}),
}

assert set(_SPOILERS) == set(get_args(MalformedName))  # noqa: S101 - the table and its type are one list
