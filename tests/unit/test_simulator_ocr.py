"""The simulator's OCR: how Tesseract's output is read, and that its absence or failure never gives invented text.

Shell scripts replace the program: the tests check how it is run and read.
"""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import structlog

from vision_app.simulator import ocr


@pytest.fixture
def tesseract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "tesseract"


def write(program: Path, script: str) -> None:
    program.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    program.chmod(0o755)


def alive(pid_file: Path) -> bool:
    return psutil.pid_exists(int(pid_file.read_text()))


async def test_text_is_cleaned(tesseract: Path) -> None:
    write(tesseract, "cat >/dev/null; printf '  АКТ   ПРИЁМКИ \\n\\n\\n № 128\\n\\f'")

    assert await ocr.read_text(b"picture") == "АКТ ПРИЁМКИ\n№ 128"


async def test_picture_goes_in_and_both_languages_are_asked_for(tesseract: Path) -> None:
    write(tesseract, 'echo "$@"; cat')

    assert await ocr.read_text(b"bytes of a picture") == "stdin stdout -l rus+eng --psm 3\nbytes of a picture"


async def test_noise_is_no_text(tesseract: Path) -> None:
    write(tesseract, "cat >/dev/null; echo '| ~ a'")

    assert await ocr.read_text(b"picture") is None


async def test_failure_is_logged_and_yields_nothing(tesseract: Path) -> None:
    write(tesseract, "cat >/dev/null; echo 'no such language: rus' >&2; exit 1")

    with structlog.testing.capture_logs() as logs:
        assert await ocr.read_text(b"picture") is None

    assert "no such language: rus" in logs[0]["error"]


async def test_program_that_takes_too_long_is_ended(tesseract: Path) -> None:
    pid = tesseract.with_name("pid")
    write(tesseract, f"echo $$ > {pid}; exec sleep 60")

    with structlog.testing.capture_logs() as logs:
        assert await ocr.read_text(b"picture", timeout_seconds=0.2) is None

    assert logs[0]["event"] == "simulator_ocr_timeout"
    assert not alive(pid)


async def test_nothing_without_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    assert await ocr.read_text(b"picture") is None
