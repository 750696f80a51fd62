"""One of a worker's processes as a supervised service: an ordinary worker with a name and ports of its own."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from vision_app.settings import Settings
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.ports import LOOPBACK, reachable
from vision_app.stack.process import Identity
from vision_app.stack.services import Progress
from vision_app.stack.state import Condition
from vision_app.stack.supervised import Supervised
from vision_app.stack.worker import Worker
from vision_app.telemetry import metrics
from vision_app.texts import heard
from vision_app.web.client_address import KEY_VARIABLE

SECONDS_AFTER_THE_DEADLINE = 15.0
"""A worker ends itself 10 s after VISION_HANDLER_DEADLINE_SECONDS; then a signal that cannot be ignored follows."""


def api_host(settings: Settings) -> str:
    """The address that the processes' own API ports listen on.

    Loopback, where only processes of this machine ask each other. VISION_API_HOST, if it is the address of one network
    or VISION_ADVERTISED_HOST is set: workers on other machines ask the owner of a row at its own port.
    """
    address = ipaddress.ip_address(settings.vision_api_host)
    if address.is_loopback or (address.is_unspecified and not settings.vision_advertised_host):
        return LOOPBACK
    return settings.vision_api_host


class OneProcess(Worker):
    """Process `number` of the worker `base`. Its output goes where the supervisor's goes. Ports of 0: choose them."""

    own_session = True

    def __init__(
        self,
        settings: Settings,
        home: Home,
        instance: Instance,
        number: int,
        base: str,
        command: Sequence[str],
        key: str,
        ask: httpx.AsyncClient,
        exited: Callable[[OneProcess, int], None],
    ) -> None:
        super().__init__(home, instance, number, command=tuple(command), ask=self._get)
        self.name = f"{base}-{number}"
        self.stop_seconds = settings.vision_handler_deadline_seconds + SECONDS_AFTER_THE_DEADLINE
        self._host, self._key, self._instance, self._number = api_host(settings), key, instance, number
        self._decoders, self._http, self._told = settings.vision_decoders, ask, exited

    @property
    def log(self) -> Path | None:
        return None

    def prepare(self, progress: Progress) -> None:
        """Keep the ports of the last start, unless another program has taken one."""
        self.port = self._instance.port(f"worker-{self._number}")
        self.metrics_port = self._instance.port(f"worker-{self._number}-metrics")

    def inherited(self) -> dict[str, str]:
        """All of them, as a worker without a supervisor has them: of the cloud's role, for example."""
        return dict(os.environ)

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "VISION_WORKERS": "1",
            "VISION_DECODERS": str(self._decoders),
            "VISION_API_HOST": self._host,
            "METRICS_HOST": LOOPBACK,
            KEY_VARIABLE: self._key,
        }

    def exited(self, code: int) -> None:
        metrics.PROCESS_RESTARTS.labels(process=self.name).inc()
        self._told(self, code)

    @property
    def url(self) -> str:
        return f"http://{reachable(self._host)}:{self.port}"

    async def _get(self, url: str) -> httpx.Response | None:
        try:
            return await self._http.get(url)
        except httpx.HTTPError:
            return None


class Processes:
    """All processes of this worker, as the proxy and the pages see them. Safe to read from other threads."""

    def __init__(self, services: Sequence[OneProcess], changed: asyncio.Event) -> None:
        self.all = [Running(service, Supervised(service, changed)) for service in services]

    def in_order(self) -> list[Running]:
        """Whom to ask: the ready ones first, then the other ones that run, each by number."""
        running = [one for one in self.all if one.runs]
        return [one for one in running if one.is_ready] + [one for one in running if not one.is_ready]


class Running:
    """One process and its state."""

    def __init__(self, service: OneProcess, supervised: Supervised) -> None:
        self.service, self.supervised = service, supervised

    @property
    def name(self) -> str:
        return self.service.name

    @property
    def process(self) -> Identity | None:
        return self.supervised.state.process

    @property
    def runs(self) -> bool:
        return self.process is not None

    @property
    def is_ready(self) -> bool:
        return self.runs and self.supervised.state.condition is Condition.READY

    @property
    def answers(self) -> bool:
        """Whether it has answered lately, or may be about to for the first time."""
        return self.runs and self.supervised.state.condition is not Condition.NOT_ANSWERING

    @property
    def trouble(self) -> str:
        """What the supervisor knows of a process that is not ready."""
        state = self.supervised.state
        if self.runs:
            return heard(state.detail) or str(state.condition)
        return "; ".join(filter(None, (heard(state.last_error), heard(state.detail)))) or str(state.condition)

    @property
    def restarts(self) -> int:
        return self.supervised.state.restarts

    @property
    def metrics_port(self) -> int:
        return self.service.metrics_port or 0
