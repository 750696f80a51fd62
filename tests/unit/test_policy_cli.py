"""`vision policy check` and `vision policy explain`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vision_app.cli.policy import policy_group

EVENT = {
    "tenant_id": "t",
    "post_id": "p",
    "media_files": [
        {"sha256": "aa", "mime_type": "image/png", "size_bytes": 100},
        {"sha256": "bb", "mime_type": "image/webp[red]\x1b[31m", "size_bytes": 100},
    ],
}


@pytest.fixture
def event(tmp_path: Path) -> str:
    path = tmp_path / "event.json"
    path.write_text(json.dumps(EVENT))
    return str(path)


def run(*args: str, text: str | None = None) -> Result:
    return CliRunner().invoke(policy_group, args, input=text)


def test_check_of_the_policy_in_use() -> None:
    result = run("check")
    assert result.exit_code == 0, result.output
    assert "correct" in result.output


def test_check_names_the_fault(tmp_path: Path) -> None:
    faulty = tmp_path / "p.yml"
    faulty.write_text("allowed_mime_types:\n  images: [a/b]\nlimit: 3\n")
    result = run("check", str(faulty))
    assert result.exit_code == 1
    assert f"{faulty}:3: limit: unknown key; did you mean limits?" in result.output


def test_explain_shows_rules_and_verdicts_as_plain_text(event: str) -> None:
    result = run("explain", event)
    assert result.exit_code == 0, result.output
    assert "analyze, prompt screenshot" in result.output
    assert "skip: policy / unsupported_mime" in result.output
    assert "image/webp[red]" in result.output
    assert "\x1b" not in result.output


def test_explain_for_scripts(event: str) -> None:
    first, second = json.loads(run("explain", event, "--json", "--quota-exhausted").output)
    assert first["verdict"]["reason"] == "quota_exhausted"
    assert second["verdict"]["details"]["policy_name"] == "unsupported_mime"
    assert [rule["rule"] for rule in first["rules"]][-2:] == ["sampling", "ocr"]


def test_explain_refuses_an_invalid_event() -> None:
    result = run("explain", "-", text="{}")
    assert result.exit_code == 1
    assert "post_id is missing" in result.output


def test_explain_of_a_post_without_media() -> None:
    result = run("explain", "-", text=json.dumps({**EVENT, "media_files": []}))
    assert result.exit_code == 0
    assert "no media" in result.output
