"""One of a worker's processes as a supervised service: an ordinary worker with a name and ports of its own."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


def api_host(settings: Settings) -> str:
    """The address that the processes' own API ports listen on.

    Loopback, where only processes of this machine ask each other. VISION_API_HOST, if it is the address of one network
    or VISION_ADVERTISED_HOST is set: workers on other machines ask the owner of a row at its own port.
    """
    address = ipaddress.ip_address(settings.vision_api_host)
    if address.is_loopback or (address.is_unspecified and not settings.vision_advertised_host):
        return LOOPBACK
    return settings.vision_api_host


@dataclass(frozen=True)
class Given:
    """What all processes of a worker have in common. `base`: the worker's name; `key`: proves the supervisor's word."""

    settings: Settings
    home: Home
    instance: Instance
    base: str
    command: tuple[str, ...]
    key: str
    stop_seconds: float


class OneProcess(Worker):
    """Process `number` of a worker. Its output goes where the supervisor's goes. `exited` is told each unasked end."""

    own_session = True

    def __init__(
        self, given: Given, number: int, http: httpx.AsyncClient, exited: Callable[[OneProcess, int], None]
    ) -> None:
        super().__init__(given.home, given.instance, number, command=given.command, ask=self._get)
        self.name = f"{given.base}-{number}"
        self.stop_seconds = given.stop_seconds
        self._given, self._number, self._http, self._told = given, number, http, exited
        self._host = api_host(given.settings)
        metrics.PROCESS_RESTARTS.labels(process=self.name)  # from zero on, so that the first end is an increase

    @property
    def log(self) -> Path | None:
        return None

    def prepare(self, progress: Progress) -> None:
        """Keep the ports of the last start, unless another program has taken one."""
        self.port = self._given.instance.port(f"worker-{self._number}")
        self.metrics_port = self._given.instance.port(f"worker-{self._number}-metrics")

    def inherited(self) -> dict[str, str]:
        """All of them, as a worker without a supervisor has them: of the cloud's role, for example."""
        return dict(os.environ)

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "VISION_WORKERS": "1",
            "VISION_DECODERS": str(self._given.settings.vision_decoders),
            "VISION_API_HOST": self._host,
            "METRICS_HOST": LOOPBACK,
            KEY_VARIABLE: self._given.key,
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
        self.heard_from: Identity | None = None
        """The last process that has answered at the metrics port."""

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
    def should_answer(self) -> bool:
        """Whether this very process has answered before: then silence means that it is frozen."""
        return self.is_ready or (self.runs and self.heard_from == self.process)

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
