"""The workers of a soak run: processes that are killed, told to end or frozen, and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from vision_app.settings import vision_home
from vision_app.stack.ports import LOOPBACK, choose
from vision_app.stack.process import spawn
from vision_app.stack.worker import COMMAND

POLL_SECONDS = 0.2
READY_SECONDS = 180.0
END_SECONDS = 80.0  # the deadline of one handler and some more


class WorkerLost(Exception):
    """A worker ended by itself or did not become ready. The text names its log, which says why."""


class WorkerProcess:
    """Worker `number`. The identity stays the same after restarts."""

    def __init__(
        self,
        number: int,
        environment: Mapping[str, str],
        logs: Path,
        taken: set[int],
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.name = f"worker-{number}"
        self.log = logs / f"{self.name}.log"
        port, metrics_port = choose(taken), choose(taken)
        taken |= {port, metrics_port}
        self.url = f"http://{LOOPBACK}:{port}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VISION_")},
            "VISION_HOME": str(vision_home()),
            **environment,
            "VISION_WORKER_ID": self.name,
            "VISION_WORKERS": "1",
            "VISION_API_PORT": str(port),
            "METRICS_PORT": str(metrics_port),
        }
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._wanted = False
        self._starting = asyncio.Lock()
        self.forced = 0

    async def start(self) -> None:
        """Start it unless it runs. `watch` and `send_signals` may call this at the same time."""
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                self._process = await spawn(list(self._command), self._environment, self.log, signal.SIGTERM)
            self._wanted = True

    async def ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until GET /readyz says 200. Raises WorkerLost."""
        deadline = time.monotonic() + seconds
        async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
            while not await self._answers(http):
                if time.monotonic() >= deadline:
                    raise WorkerLost(f"{self.name} is not ready after {seconds:.0f} s; see {self.log}")
                await asyncio.sleep(POLL_SECONDS)

    async def _answers(self, http: httpx.AsyncClient) -> bool:
        try:
            return (await http.get(f"{self.url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def ended_by_itself(self) -> bool:
        return self._wanted and self._process is not None and self._process.returncode is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal. Does nothing if the worker has ended."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def kill(self) -> None:
        async with self._starting:
            self._wanted = False
            self.signal(signal.SIGKILL)
            await self._ended()

    async def terminate(self) -> float:
        """Send SIGTERM; if the worker is too slow, SIGKILL, counted in `forced`. Returns the seconds it took."""
        self._wanted = False
        started = time.monotonic()
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._ended(), END_SECONDS)
        except TimeoutError:
            self.forced += 1
            await self.kill()
        return time.monotonic() - started

    async def _ended(self) -> None:
        if self._process is not None:
            await self._process.wait()
