"""Writes files so that a reader never sees half of one, and so that only the owner may read files with secrets."""

from __future__ import annotations

import io
import os
import shutil
import threading
from pathlib import Path

LOG_BYTES = 64 * 1024 * 1024  # a log that grows beyond this is rotated while its process goes on writing
KEPT_LOGS = 3


class UnfailingText(io.TextIOBase):
    """A text stream to a file descriptor for log lines, whose disk may be full.

    A line that cannot be written is counted, and nothing fails. The count is written before the next line.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lost = descriptor, 0

    def write(self, text: str) -> int:
        told = f"{self._lost} lines could not be written here\n" if self._lost else ""
        content = (told + text).encode(errors="replace")
        try:
            written = os.write(self._descriptor, content)
        except OSError:
            written = 0
        self._lost = 0 if written == len(content) else self._lost + 1
        return len(text)


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace the contents of `path` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)
    scratch.replace(path)


def rotate(log: Path) -> None:
    """Keep the earlier logs as `.1` (newest) to `.3`; `log` itself does not exist afterwards."""
    if not log.exists() or not log.stat().st_size:
        return
    _shift(log)
    log.replace(_numbered(log, 1))


def rotate_in_use(log: Path, limit: int = LOG_BYTES) -> None:
    """Rotate a log that its process keeps open: copy, then empty it. Lines written in between may be lost."""
    if not log.exists() or log.stat().st_size <= limit:
        return
    _shift(log)
    shutil.copyfile(log, _numbered(log, 1))
    os.truncate(log, 0)


def size_of(file: Path) -> int:
    """Bytes of a file; 0 if it does not exist yet."""
    return file.stat().st_size if file.exists() else 0


def _shift(log: Path) -> None:
    for number in range(KEPT_LOGS - 1, 0, -1):
        if _numbered(log, number).exists():
            _numbered(log, number).replace(_numbered(log, number + 1))


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
