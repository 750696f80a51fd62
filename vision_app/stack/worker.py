"""A worker as a supervised process. What it does is in `vision_app.app`."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

import httpx

from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.ports import LOOPBACK, require_free
from vision_app.stack.services import Progress, Service, http_status
from vision_app.texts import noted, say

SHOWN_CHARACTERS = 300
COMMAND = (sys.executable, "-m", "vision_app", "--quiet", "worker", "--loglevel", "info")
"""No banner and spinner of Faust, so that the log is JSON from its first byte; LOG_LEVEL sets the real level."""


class Worker(Service):
    """Worker `number` of this home. A port of 0 means: choose one. `ask` sends a GET; None without an answer."""

    is_worker = True
    no_answer = noted("the API to answer")
    start_seconds = 180  # it may have tables to recover
    stop_seconds: float = 75  # the deadline of one handler and some more

    def __init__(
        self,
        home: Home,
        instance: Instance,
        number: int,
        port: int = 0,
        metrics_port: int = 0,
        command: tuple[str, ...] = COMMAND,
        ask: Callable[[str], Awaitable[httpx.Response | None]] = http_status,
    ) -> None:
        self.name = f"worker-{number}"
        self._given_port = port
        super().__init__(home, instance)
        self.metrics_port = metrics_port or instance.port(f"{self.name}-metrics")
        self._command, self._ask = command, ask

    def choose_port(self, instance: Instance) -> int:
        return self._given_port or instance.port(self.name)

    def prepare(self, progress: Progress) -> None:
        check_worker_ports(self.port, self.metrics_port or 0)

    def command(self) -> list[str]:
        return list(self._command)

    def environment(self) -> dict[str, str]:
        return {
            "VISION_WORKER_ID": self.name,
            "VISION_WORKERS": "1",  # `vision up` starts as many as there shall be
            "VISION_API_PORT": str(self.port),
            "METRICS_PORT": str(self.metrics_port),
            "VISION_HOME": str(self.home.root),
        }

    async def waiting_for(self) -> str | None:
        answer = await self._ask(f"{self.url}/readyz")
        if answer is None:  # the metrics port answers also while the event loop is blocked
            answer = await self._ask(f"http://{LOOPBACK}:{self.metrics_port}/readyz")
            if answer is None or answer.status_code == 200:
                return self.no_answer
        return (
            None
            if answer.status_code == 200
            else say("GET /readyz says {status}: {reason}", status=answer.status_code, reason=_reason(answer))
        )

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


def _reason(answer: httpx.Response) -> str:
    """The reason in a /readyz answer, else its text."""
    try:
        return str(answer.json()["reason"])[:SHOWN_CHARACTERS]
    except (ValueError, KeyError, TypeError):
        return answer.text[:SHOWN_CHARACTERS]


def check_worker_ports(port: int, metrics_port: int) -> None:
    """Raises StackError unless both are free; 0 stands for a port to be chosen."""
    for number, variable in ((port, "VISION_API_PORT"), (metrics_port, "METRICS_PORT")):
        if number:
            require_free(number, say("stop it or set {variable} to another port", variable=variable))
