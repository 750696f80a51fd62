"""The simulated model that obeys the text on a picture."""

from __future__ import annotations

import json
from typing import Any

from vision_app.simulator.obedience import obey

USUAL: dict[str, Any] = {"classification": "photo", "description": "Кот", "labels": [], "ocr": {"text": "прочитано"}}


def test_the_text_is_the_answer() -> None:
    assert obey('{"tenant_id": "x"}', "answer", USUAL) == '{"tenant_id": "x"}'


def test_without_a_text_it_is_what_was_read() -> None:
    assert obey(None, "answer", USUAL) == "прочитано"
    assert json.loads(obey(None, "answer", {**USUAL, "ocr": None})) == {**USUAL, "ocr": None}, "nothing to obey"


def test_the_text_is_in_every_field() -> None:
    said = json.loads(obey("взятка мэру", "fields", USUAL))
    assert said["classification"] == "photo"
    assert said["description"] == said["scene"] == said["ocr"]["text"] == said["objects"][0] == "взятка мэру"
    assert said["labels"] == ["взятка мэру", "взятка", "мэру"]
