"""Reads the text of a picture with Tesseract, if it is installed. Never invents text."""

from __future__ import annotations

import asyncio
import os
import shutil

import structlog

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "TESSDATA_PREFIX")
"""The only variables that Tesseract gets: others may contain secrets."""
TIMEOUT_SECONDS = 20.0
_MIN_LETTERS = 3  # shorter texts are noise

log = structlog.get_logger(__name__)


async def read_text(data: bytes, timeout_seconds: float = TIMEOUT_SECONDS) -> str | None:
    """The text Tesseract (rus+eng) reads in the picture `data`; None without Tesseract or without text."""
    program = shutil.which("tesseract")
    if program is None:
        return None
    process = await asyncio.create_subprocess_exec(
        program,
        *("stdin", "stdout", "-l", "rus+eng", "--psm", "3"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"OMP_THREAD_LIMIT": "1"},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(data), timeout_seconds)
    except TimeoutError:
        log.warning("simulator_ocr_timeout", timeout_seconds=timeout_seconds)
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        log.warning("simulator_ocr_failed", error=err.decode(errors="replace")[:300])
        return None
    return _clean(out.decode("utf-8", errors="replace"))


def _clean(text: str) -> str | None:
    lines = [" ".join(line.split()) for line in text.splitlines()]
    cleaned = "\n".join(line for line in lines if line)
    return cleaned if sum(character.isalpha() for character in cleaned) >= _MIN_LETTERS else None
