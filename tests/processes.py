"""Servers that a test starts by itself, beside those of the embedded stack."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from vision_app.stack.environment import plain

START_SECONDS = 90


def installed(program: str) -> str:
    """The path of a program that Debian's packages bring. Skips the test where it is not installed."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed; as root on Debian: make tools")
    return found


@contextmanager
def serving(
    command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the end of the block; begins when its port on 127.0.0.1 accepts connections."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=plain() | dict(environment or {}))
    try:
        deadline = time.monotonic() + START_SECONDS
        while not accepts(port):
            assert process.poll() is None, f"{command[0]} ended: {log.read_text(errors='replace')[-2000:]}"
            assert time.monotonic() < deadline, (
                f"{command[0]} did not listen: {log.read_text(errors='replace')[-2000:]}"
            )
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
