"""A supervisor (VISION_WORKERS) of small processes, `fake_worker.py`, as a process of its own. Not a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from tests.integration.pipeline import free_port

PROGRAM = str(Path(__file__).with_name("supervised.py"))
ROOT = str(Path(__file__).parents[1])
SECONDS = 30.0

T = TypeVar("T")


def until(look: Callable[[], T | None], what: str = "it") -> T:
    """What `look` returns as soon as that is true. Fails after SECONDS."""
    deadline = time.monotonic() + SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.05)
    return found


class Supervised:
    """A supervisor of two processes, `w-1` and `w-2`, as a process of its own."""

    def __init__(self, home: Path) -> None:
        self.home, self._log = home, home / "log"
        self.url, self.metrics = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.http = httpx.Client(trust_env=False, timeout=10)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, patience: dict[str, float] | None = None, **more: str) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VISION_")},
            "VISION_PORTS": os.environ["VISION_PORTS"],
            "PYTHONPATH": ROOT,
            "VISION_HOME": str(self.home),
            "VISION_WORKER_ID": "w",
            "VISION_API_PORT": self.url.rpartition(":")[2],
            "METRICS_PORT": self.metrics.rpartition(":")[2],
            **more,
        }
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, PROGRAM, json.dumps({"ask_seconds": 1.0} | (patience or {}))],
                env=environment,
                stdout=log,
                stderr=log,
            )

    def tell(self, name: str, what: str, text: str = "1") -> None:
        (self.home / f"{name}.{what}").write_text(text)

    def get(self, path: str, **more: Any) -> httpx.Response | None:
        try:
            return self.http.get(f"{self.url}{path}", **more)
        except httpx.HTTPError:
            return None

    def said(self, wanted: Callable[[httpx.Response], bool], path: str = "/readyz") -> httpx.Response:
        """The first answer that is as wanted."""

        def look() -> httpx.Response | None:
            answer = self.get(path)
            return answer if answer is not None and wanted(answer) else None

        return until(look, f"such an answer to {path}")

    def ready(self) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            answer = self.get("/readyz")
            return answer.json() if answer is not None and answer.status_code == 200 else None

        return until(look, "ready")

    def pids(self) -> dict[str, int]:
        return {one["name"]: one["pid"] for one in self.ready()["processes"]}

    def log(self) -> str:
        return self._log.read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def ended(self) -> int:
        assert self.process is not None
        return self.process.wait(SECONDS)


@contextmanager
def small_supervisor(home: Path) -> Iterator[Supervised]:
    """Not started. What still runs at the end is ended."""
    one = Supervised(home)
    try:
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            family = psutil.Process(one.process.pid).children(recursive=True)
            one.process.kill()
            one.process.wait()
            psutil.wait_procs(family, timeout=5)
        one.http.close()
