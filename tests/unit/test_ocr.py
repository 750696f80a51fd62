"""OCR by Tesseract: found or not, limits, and reading its table of words. The last test uses the real program."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import pytest

from vision_app.providers.base import Picture
from vision_app.providers.decoding import DecodeRequest, decode
from vision_app.providers.ocr import OcrFault, Tesseract, analysis_of
from vision_app.settings import Settings, load_settings
from vision_app.telemetry import metrics

SETTINGS = load_settings()
PICTURE = Picture(b"bytes", "image/png", 10, 10)
HEAD = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext"


def table(*lines: Sequence[tuple[str, float]]) -> str:
    rows = [HEAD, "1\t1\t0\t0\t0\t0\t0\t0\t100\t100\t-1\t"]
    for number, words in enumerate(lines):
        rows += [f"5\t1\t1\t1\t{number}\t{at}\t1\t1\t9\t9\t{conf}\t{word}" for at, (word, conf) in enumerate(words)]
    return "\n".join(rows)


def stand_in(folder: Path, reading: str, languages: str = "rus eng osd") -> str:
    """A program that reports its version and languages like Tesseract, and runs `reading` when given a picture."""
    program = folder / "tesseract"
    program.write_text(
        f"#!{sys.executable} -I\n"
        "import os, sys, time\n"
        "if sys.argv[1] == '--version': print('tesseract 5.3.0\\n leptonica-1.82.0')\n"
        f"elif sys.argv[1] == '--list-langs': print('List of languages:', *{languages.split()!r}, sep='\\n')\n"
        f"else:\n    {reading}\n"
    )
    program.chmod(0o755)
    return str(program)


async def opened(program: str, settings: Settings = SETTINGS, **more: float) -> Tesseract:
    tesseract = Tesseract(settings, program, **more)
    await tesseract.open()
    return tesseract


async def reason(tesseract: Tesseract, picture: Picture = PICTURE) -> str:
    with pytest.raises(OcrFault) as caught:
        await tesseract.read(picture)
    return caught.value.reason


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def test_a_missing_program_is_reported_with_its_remedy(tmp_path: Path) -> None:
    tesseract = await opened(str(tmp_path / "tesseract"))
    assert not tesseract.available
    assert "apt-get install tesseract-ocr tesseract-ocr-rus" in tesseract.reason
    assert await reason(tesseract) == "not_available"


async def test_a_program_that_goes_while_the_worker_runs_is_noticed_at_the_next_run(tmp_path: Path) -> None:
    program = Path(stand_in(tmp_path, "pass"))
    tesseract = await opened(str(program))
    assert (tesseract.available, metrics.OCR_AVAILABLE._value.get()) == (True, 1)
    ways: tuple[Callable[[], None], ...] = (lambda: program.chmod(0o644), program.unlink)
    for lose in ways:
        tesseract.available = True
        lose()
        assert await reason(tesseract) == "not_available"
        assert (tesseract.available, metrics.OCR_AVAILABLE._value.get()) == (False, 0)
        assert "reinstall tesseract-ocr" in tesseract.reason


async def test_a_program_that_comes_and_goes_is_noticed_without_a_run(tmp_path: Path) -> None:
    program = tmp_path / "tesseract"
    tesseract = await opened(str(program), look_seconds=0.01)
    assert not tesseract.available
    stand_in(tmp_path, "pass")
    await until(lambda: tesseract.available)
    program.unlink()
    await until(lambda: not tesseract.available)
    await tesseract.close()


async def test_a_missing_language_is_reported_with_its_remedy(tmp_path: Path) -> None:
    tesseract = await opened(stand_in(tmp_path, "pass", languages="eng osd"))
    assert not tesseract.available
    assert "apt-get install tesseract-ocr-rus" in tesseract.reason


async def test_a_picture_is_read(tmp_path: Path) -> None:
    reading = f"assert sys.stdin.buffer.read() == b'bytes'; print({table([('Привет,', 90), ('ёж', 80)])!r})"
    tesseract = await opened(stand_in(tmp_path, reading))
    assert (tesseract.available, tesseract.languages, tesseract.reason) == (True, ("rus", "eng"), "")
    analysis, model = await tesseract.read(PICTURE)
    assert model == "tesseract-5.3.0"
    assert analysis.ocr is not None
    assert (analysis.ocr.text, analysis.ocr.engine, analysis.ocr.confidence) == ("Привет, ёж", "tesseract", 0.85)


async def test_documents_are_not_read(tmp_path: Path) -> None:
    tesseract = await opened(stand_in(tmp_path, "pass"))
    assert await reason(tesseract, Picture(b"%PDF-", "application/pdf", 0, 0)) == "not_an_image"


async def test_a_program_that_fails_is_a_fault(tmp_path: Path) -> None:
    assert await reason(await opened(stand_in(tmp_path, "sys.exit('no')"))) == "failed"


async def test_memory_is_bounded(tmp_path: Path) -> None:
    greedy = "sys.stdin.buffer.read(); len(bytearray(3 * 1024**3)); print('level')"
    assert await reason(await opened(stand_in(tmp_path, greedy))) == "failed"


async def test_a_run_beyond_its_time_is_killed(tmp_path: Path) -> None:
    program = stand_in(tmp_path, f"{_write_pid(tmp_path)}; time.sleep(600)")
    tesseract = await opened(program, load_settings(vision_ocr_timeout=2))
    started = time.monotonic()
    assert await reason(tesseract) == "timeout"
    assert time.monotonic() - started < 10
    assert not _alive(tmp_path)


async def test_a_cancelled_run_is_killed(tmp_path: Path) -> None:
    tesseract = await opened(stand_in(tmp_path, f"{_write_pid(tmp_path)}; time.sleep(600)"))
    reading = asyncio.create_task(tesseract.read(PICTURE))
    await until((tmp_path / "pid").exists)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not _alive(tmp_path)


def _write_pid(folder: Path) -> str:
    """Written under another name first: a reader never sees it empty."""
    new, final = str(folder / "pid.new"), str(folder / "pid")
    return f"open({new!r}, 'w').write(str(os.getpid())); os.rename({new!r}, {final!r})"


def _alive(folder: Path) -> bool:
    return Path(f"/proc/{(folder / 'pid').read_text()}").exists()


def test_text_of_many_lines_is_a_document() -> None:
    analysis = analysis_of(table(*[[("строка", 95), (str(number), 95)] for number in range(8)]))
    assert (analysis.classification, analysis.is_meme) == ("document", False)
    assert analysis.description.startswith("Документ с текстом (строк: 8): строка 0 строка 1")
    assert analysis_of(table(*[[("строка", 95)]] * 1)).classification == "other"
    assert analysis_of(table([("слово" * 101, 95)])).classification == "document"


def test_words_it_is_unsure_of_do_not_count() -> None:
    analysis = analysis_of(table([("шерсть", 12), ("TAY", 40)]))
    assert (analysis.ocr, analysis.classification, analysis.confidence) == (None, "other", None)


@pytest.mark.parametrize(
    "odd", ["", "nonsense", HEAD, f"{HEAD}\n5\t1", f"{HEAD}\n\t\t\t\t\t\t\t\t\t\tx\ty", "\x00\n\x00"]
)
def test_odd_tables_hold_no_text(odd: str) -> None:
    assert analysis_of(odd).ocr is None


async def test_the_installed_tesseract_reads_russian() -> None:
    tesseract = Tesseract(load_settings())
    await tesseract.open()
    if not tesseract.available:
        pytest.skip(f"{tesseract.reason}; then run this test again")
    content = (resources.files("vision_app") / "demo_media" / "document_act.png").read_bytes()
    analysis, model = await tesseract.read(decode(content, "image/png", DecodeRequest(1024, 75)))
    assert model == f"tesseract-{tesseract.version}"
    assert analysis.classification == "document"
    assert analysis.ocr is not None
    assert "АКТ" in analysis.ocr.text
    assert analysis.ocr.confidence is not None
    assert analysis.ocr.confidence > 0.7
