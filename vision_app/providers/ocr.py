"""Reads the text in a picture with Tesseract, a subprocess under limits: free, for when the model may not be asked.

It reads only pictures, not documents. Without the program everything else works; `reason` says what to install. If the
program is removed or installed while the worker runs, that is noticed at the next run or within a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import re
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Literal

import structlog

from vision_app.domain.json_salvage import clean
from vision_app.messages import Analysis, Kind, Ocr
from vision_app.providers.base import Picture
from vision_app.settings import Settings
from vision_app.telemetry import metrics
from vision_app.telemetry.watch import waiting_for

log = structlog.get_logger(__name__)

ENGINE = "tesseract"
MEMORY_BYTES = 2 * 1024**3  # address space; reading 1024 px with two languages takes about 300 MB
OUTPUT_BYTES = 8 * 1024 * 1024
CONCURRENT_RUNS = 2  # each uses a core
LOOK_SECONDS = 60.0  # between checks whether the program is there
PAGE_LAYOUT = "3"  # find blocks of text anywhere on the page, without guessing its orientation
MAX_TEXT_CHARS = 100_000
DOCUMENT_LINES = 8  # from this many lines or
DOCUMENT_CHARS = 500  # more than this many characters a picture of text counts as a document
MIN_WORD_CONFIDENCE = 50  # of 100; below this, fur and leaves are read as letters
MAX_QUOTE_CHARS = 160

OcrReason = Literal["not_available", "not_an_image", "timeout", "failed"]


class OcrFault(Exception):
    """Tesseract gave no answer about this picture. `reason` is one of OcrReason. Reading it again does not help."""

    def __init__(self, reason: OcrReason, details: str) -> None:
        super().__init__(f"{reason}: {details}")
        self.reason: OcrReason = reason


class Tesseract:
    """The installed Tesseract. After `open`, `available` says whether it can be used, and `reason` why not."""

    def __init__(self, settings: Settings, program: str = ENGINE, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._settings = settings
        self._program, self._look_seconds = program, look_seconds
        self._path = ""
        self._running = asyncio.Semaphore(CONCURRENT_RUNS)
        self._passed_at = time.monotonic()  # when a picture last got its turn
        self.available = False
        self.version = ""
        self.languages: tuple[str, ...] = ()
        self.reason = "not looked for yet"
        self._looking: asyncio.Task[None] | None = None

    @property
    def _passing_seconds(self) -> float:
        """If no picture got its turn for longer than this, the waiting pictures count as stalled."""
        return 2.0 * self._settings.vision_ocr_timeout

    async def open(self) -> None:
        """Look for the program and its languages now and every minute. Never fails."""
        self._found(await self._look())
        self._looking = asyncio.create_task(self._look_again(), name="ocr-look")

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            try:
                self._found(await self._look())
            except Exception:
                metrics.UNEXPECTED_ERRORS.labels(where="timers").inc()
                log.exception("ocr_check_failed")

    def _found(self, missing: str) -> None:
        """Note the result of a check. `missing` is empty, or says what is missing and what to do."""
        changed = missing != self.reason
        self.reason, self.available = missing, not missing
        metrics.OCR_AVAILABLE.set(self.available)
        if changed and self.available:
            log.info("ocr_available", version=self.version, languages="+".join(self.languages))
        elif changed:
            log.warning("ocr_not_available", reason=self.reason)

    async def read(self, picture: Picture) -> tuple[Analysis, str]:
        """The text on the picture as an analysis, and the engine's name with its version. Raises OcrFault.

        A picture without text gets an answer, too: classification `other`, `ocr` None.
        """
        if not self.available:
            raise OcrFault("not_available", self.reason)
        if not picture.is_image:
            raise OcrFault("not_an_image", f"{picture.mime_type} is not read by OCR")
        started = time.perf_counter()
        try:
            table = await self._recognise(picture.content)
        except (FileNotFoundError, PermissionError, NotADirectoryError) as fault:
            metrics.OCR_REQUESTS.labels(ENGINE, "error").inc()
            self._found(f"{self._path} was there and can no longer be run ({fault.strerror}); reinstall tesseract-ocr")
            raise OcrFault("not_available", self.reason) from fault
        except OcrFault as fault:
            status = "timeout" if fault.reason == "timeout" else "error"
            metrics.OCR_REQUESTS.labels(ENGINE, status).inc()
            raise
        finally:
            metrics.OCR_DURATION.labels(ENGINE).observe(time.perf_counter() - started)
        metrics.OCR_REQUESTS.labels(ENGINE, "success").inc()
        return analysis_of(table), f"{ENGINE}-{self.version}"

    async def _recognise(self, content: bytes) -> str:
        # Pictures here have at most 1024 px. With a resolution given, Tesseract need not guess the size of letters.
        arguments = ("-", "-", "-l", "+".join(self.languages), "--psm", PAGE_LAYOUT, "--dpi", "150", "tsv")
        async with AsyncExitStack() as turn:
            with waiting_for("tesseract", lambda: time.monotonic() - self._passed_at < self._passing_seconds):
                await turn.enter_async_context(self._running)
            self._passed_at = time.monotonic()
            status, out, err = await self._run(arguments, content, float(self._settings.vision_ocr_timeout))
        if status != 0:
            raise OcrFault("failed", f"tesseract ended with {status}: {err.strip()[-300:]}")
        return out

    async def _look(self) -> str:
        path = shutil.which(self._program)
        if path is None:
            return "tesseract is not installed; on Debian: apt-get install tesseract-ocr tesseract-ocr-rus"
        self._path = path
        try:
            _, version, _ = await self._run(("--version",), b"", 10)
            _, listed, _ = await self._run(("--list-langs",), b"", 10)
        except (OcrFault, OSError) as fault:
            return f"{path} cannot be run ({fault}); reinstall tesseract-ocr"
        found = re.search(r"tesseract\s+v?([\w.-]+)", version)
        self.version = found.group(1) if found else "unknown"
        wanted = self._settings.vision_ocr_languages.split("+")
        self.languages = tuple(language for language in wanted if language in listed.split())
        if self.languages != tuple(wanted):
            missing = sorted(set(wanted) - set(self.languages))
            packages = " ".join(f"tesseract-ocr-{language}" for language in missing)
            return f"Tesseract lacks {', '.join(missing)}; on Debian: apt-get install {packages}"
        return ""

    async def _run(self, arguments: tuple[str, ...], content: bytes, seconds: float) -> tuple[int, str, str]:
        """Status, output and errors of one run. Raises OcrFault on timeout and on too much output."""
        process = await asyncio.create_subprocess_exec(
            self._path,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"OMP_THREAD_LIMIT": "1", "LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
        )
        _limit(process.pid, int(seconds) + 1)  # the child still waits for its input
        try:
            async with asyncio.timeout(seconds):
                out, err = await process.communicate(content)
        except TimeoutError as late:
            raise OcrFault("timeout", f"not read within {seconds:g} s (VISION_OCR_TIMEOUT)") from late
        finally:
            if process.returncode is None:
                process.kill()
                await asyncio.shield(process.wait())
        if len(out) > OUTPUT_BYTES:
            raise OcrFault("failed", f"more than {OUTPUT_BYTES} bytes of output")
        return process.returncode or 0, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


def analysis_of(table: str) -> Analysis:
    """The analysis from Tesseract's table of words (TSV: level, place, confidence 0..100, text)."""
    lines: dict[tuple[str, ...], list[str]] = {}
    confidences: list[float] = []
    for place, confidence, word in _words(table):
        lines.setdefault(place, []).append(word)
        confidences.append(confidence)
    text = "\n".join(" ".join(words) for words in lines.values())[:MAX_TEXT_CHARS]
    if not text:
        return _analysis("other", "Текст на изображении не найден.", [], None)
    document = len(lines) >= DOCUMENT_LINES or len(text) > DOCUMENT_CHARS
    confidence = round(sum(confidences) / len(confidences) / 100, 3)
    labels = ["текст", "документ"] if document else ["текст"]
    ocr = Ocr(text=text, engine=ENGINE, confidence=confidence)
    return _analysis("document" if document else "other", _description(text, len(lines), document), labels, ocr)


def _analysis(kind: Kind, description: str, labels: list[str], ocr: Ocr | None) -> Analysis:
    return Analysis(
        classification=kind,
        description=description,
        labels=labels,
        ocr=ocr,
        nsfw_score=None,
        aesthetic_score=None,
        confidence=ocr.confidence if ocr else None,
    )


def _words(table: str) -> Iterator[tuple[tuple[str, ...], float, str]]:
    for row in csv.DictReader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        word = clean(row.get("text") or "").strip()
        try:
            confidence = float(row["conf"])
        except (KeyError, TypeError, ValueError):
            continue
        if word and confidence >= MIN_WORD_CONFIDENCE:  # -1 marks blocks and lines
            place = tuple(row[name] or "" for name in ("page_num", "block_num", "par_num", "line_num"))
            yield place, min(confidence, 100.0), word


def _description(text: str, lines: int, document: bool) -> str:
    quote = " ".join(text.split())
    shown = quote if len(quote) <= MAX_QUOTE_CHARS else quote[:MAX_QUOTE_CHARS].rsplit(" ", 1)[0] + "…"
    return f"{'Документ с текстом' if document else 'Изображение с текстом'} (строк: {lines}): {shown}"


def _limit(pid: int, cpu_seconds: int) -> None:
    """Bound memory and processor time of the child. Not in a preexec_fn, which is unsafe with threads."""
    limits = {resource.RLIMIT_AS: MEMORY_BYTES, resource.RLIMIT_CPU: cpu_seconds, resource.RLIMIT_CORE: 0}
    with contextlib.suppress(ProcessLookupError):  # it ended already
        for kind, bound in limits.items():
            resource.prlimit(pid, kind, (bound, bound))
