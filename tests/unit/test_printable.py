"""Hostile texts that people see contain no control characters, no change of direction and no markup."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.hostile_texts import TEXTS
from vision_app.domain.json_salvage import clean
from vision_app.lab.demo.checks import Check
from vision_app.lab.demo.report import check_lines, post_view
from vision_app.printable import escaped, json_text, printable, tool_line
from vision_app.telemetry.logging import _harmless, _json

FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)


@pytest.mark.parametrize("name", TEXTS)
def test_nothing_dangerous_is_shown(name: str) -> None:
    text = TEXTS[name]
    assert not FORBIDDEN.search(printable(text))
    text = text.encode("utf-8", "replace").decode()
    shown = json_text({"text": text, text: [text]})
    assert not FORBIDDEN.search(shown)
    assert orjson.loads(shown) == {"text": text, text: [text]}, "for programs it is still the same"


@given(st.text())
def test_what_is_shown_is_printable_and_json_means_the_same(text: str) -> None:
    assert all(sign.isprintable() or sign == "\n" for sign in printable(text))
    line = escaped(json.dumps(text, ensure_ascii=False))
    assert line.isprintable()
    assert json.loads(line) == text


@pytest.mark.parametrize("name", TEXTS)
def test_answers_carry_nothing_that_steers(name: str) -> None:
    kept = clean(TEXTS[name])
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]", kept)


@pytest.mark.parametrize("name", TEXTS)
def test_log_lines_are_one_line_each_and_harmless(name: str) -> None:
    text = TEXTS[name].encode("utf-8", "replace").decode()
    line = _json({"event": text, "error": text})
    assert line.isprintable()
    assert json.loads(line)["error"] == text
    for_terminal = _harmless(None, "", {"event": text, "count": 1})
    assert not FORBIDDEN.search(for_terminal["event"])


@pytest.mark.parametrize("name", [name for name in TEXTS if name not in ("long", "deep")])
def test_the_demos_report_shows_texts_as_texts(name: str) -> None:
    text = TEXTS[name].encode("utf-8", "replace").decode()
    analysis = {"classification": "photo", "description": text, "ocr": {"text": text}}
    evidence: Any = SimpleNamespace(
        post=SimpleNamespace(
            name="a post", tenant_id="t", post_id="p", trace_ids=["t-1"], pictures=[SimpleNamespace(file="a.jpg")]
        ),
        row={"status": "ok", "data": {}, "s3_vision_keys": [], "updated_at": datetime.now(UTC)},
        enrichments=[{"status": "analyzed", "analysis": analysis}],
        media=[{"tokens_billed": 1}],
        images={"0" * 64: {"labels": [text]}},
        announced=[],
        answers={},
    )
    out = io.StringIO()
    console = Console(file=out, width=400, color_system=None)
    console.print(post_view(evidence))
    console.print(check_lines(Check("a check", (text,), text)))
    shown = out.getvalue()
    assert not FORBIDDEN.search(shown)
    assert "[bold red]" in shown or "[bold red]" not in text, "markup is text"


HOSTILE = "a\x9b2J\u202eb\x1b[31m\u200bc"


@pytest.mark.parametrize("terminal", [True, False])
def test_hostile_json_on_a_tools_line_means_the_same_and_steers_nothing(terminal: bool) -> None:
    value = json.dumps({"text": HOSTILE}, ensure_ascii=False).replace("\\u001b", "\\u001b")
    line = f"tenant:post|{value}\n".encode()
    told = tool_line(line, terminal=terminal).decode()
    assert not FORBIDDEN.search(told)
    key, _, again = told.rstrip("\n").partition("|")
    assert (key, json.loads(again)) == ("tenant:post", {"text": HOSTILE})
    assert told.endswith("\n")


OTHERS = [
    f"tenant:post|{HOSTILE}\n".encode(),
    b"key|\x9b2J raw\n",
    b'key|{\t"a": 1}\n',
    b'k\x1b[2J|{"a": 1}\n',
    b'key|{"a": "\x9b"}\n',
    f'key|{{"a": "{HOSTILE}"\n'.encode(),
]


@pytest.mark.parametrize("line", OTHERS)
def test_what_is_no_json_is_escaped_for_a_terminal_and_the_same_byte_for_byte_in_a_pipe(line: bytes) -> None:
    assert not FORBIDDEN.search(tool_line(line, terminal=True).decode().replace("\t", "\x01"))
    assert tool_line(line, terminal=False) == line


@given(st.text(), st.booleans())
def test_a_tools_line_that_is_harmless_is_not_touched(text: str, terminal: bool) -> None:
    line = (re.sub(r"[^ -~а-яё]", "", text) + "\n").encode()
    assert tool_line(line, terminal=terminal) == line


@given(st.binary())
def test_no_bytes_steer_a_terminal(content: bytes) -> None:
    for line in content.splitlines(keepends=True):
        assert not FORBIDDEN.search(tool_line(line, terminal=True).decode())
