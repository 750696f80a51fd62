"""Logs are kept when they are rotated; files replaced are never half written."""

from __future__ import annotations

import os
from pathlib import Path

from vision_app.stack.files import KEPT_LOGS, UnfailingText, rotate, rotate_in_use, write_atomically


def test_earlier_logs_are_kept_up_to_a_number(tmp_path: Path) -> None:
    log = tmp_path / "redis.log"
    for number in range(6):
        log.write_text(f"run {number}")
        rotate(log)
    assert not log.exists()
    kept = [tmp_path / f"redis.log.{number}" for number in range(1, KEPT_LOGS + 1)]
    assert [path.read_text() for path in kept] == ["run 5", "run 4", "run 3"]
    assert len(list(tmp_path.iterdir())) == KEPT_LOGS


def test_an_empty_log_is_not_rotated(tmp_path: Path) -> None:
    log = tmp_path / "redis.log"
    log.touch()
    rotate(log)
    assert list(tmp_path.iterdir()) == [log]


def test_a_log_in_use_goes_on_at_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"0123456789")
        rotate_in_use(log, limit=5)
        writer.write(b"more")
    assert (tmp_path / "worker.log.1").read_bytes() == b"0123456789"
    assert log.read_bytes() == b"more"


def test_a_written_file_is_only_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "env"
    write_atomically(path, "SECRET=1")
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_lines_that_a_full_disk_does_not_take_are_counted(tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    full = os.open("/dev/full", os.O_WRONLY)
    descriptor = os.dup(full)
    stream = UnfailingText(descriptor)
    stream.write("lost\n")
    stream.write("lost, too\n")
    os.dup2(log, descriptor)  # there is room again
    stream.write("written\n")
    stream.write("and this\n")
    assert (tmp_path / "log").read_text() == "2 lines could not be written here\nwritten\nand this\n"
    for number in (log, full, descriptor):
        os.close(number)
