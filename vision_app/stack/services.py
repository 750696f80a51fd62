"""The interface between supervisor and services. One class per service, each in the module of its name."""

from __future__ import annotations

import asyncio
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import httpx

from vision_app.stack.environment import of_a_worker, plain
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.ports import LOOPBACK, require_free
from vision_app.texts import say

Progress = Callable[[str], None]
PROBE_SECONDS = 2.0


class Service(ABC):
    """One process under supervision.

    The supervisor calls `prepare`, starts `command`, calls `waiting_for` until it returns None, and at the end sends
    `stop_signal`, after `stop_seconds` SIGKILL, and calls `ended`.
    """

    name: str
    stop_signal: signal.Signals = signal.SIGTERM
    start_seconds: float = 60  # after which a start counts as failed
    stop_seconds: float = 20
    is_worker: bool = False
    no_answer: str = ""  # what `waiting_for` of a worker says if nothing answers; of a service any text means that
    metrics_port: int | None = None  # a worker's
    user: str = ""  # the user to run as when the supervisor is root; "" for the supervisor's own user
    own_session: bool = False  # whether a terminal's Ctrl-C reaches only the supervisor

    def __init__(self, home: Home, instance: Instance) -> None:
        self.home = home
        self.port = self.choose_port(instance)
        self.data = home.data(self.name)

    def choose_port(self, instance: Instance) -> int:
        return instance.port(self.name)

    def prepare(self, progress: Progress) -> None:
        """Download, write configuration, initialise data. May block; runs before every start, so it must be cheap
        when nothing is left to do. Raises StackError or OSError.
        """
        require_free(
            self.port, say("stop it, or stop this stack with `vision down`; `vision up` then chooses another port")
        )
        self.data.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def command(self) -> list[str]:
        """The command line, its first item an absolute path. Called after `prepare`."""

    def inherited(self) -> dict[str, str]:
        """The variables of the supervisor that the process gets."""
        return of_a_worker(os.environ) if self.is_worker else plain()

    def environment(self) -> dict[str, str]:
        """Variables for the process beside the inherited ones."""
        return {}

    @property
    def log(self) -> Path | None:
        """The file that takes the process' output. None: it goes where the supervisor's goes."""
        return self.home.log(self.name)

    @abstractmethod
    async def waiting_for(self) -> str | None:
        """None when the service is usable, otherwise a few words on what is missing. Must not raise."""

    def variables(self) -> dict[str, str]:
        """The settings with which the worker and the commands find this service, for `.vision/env`."""
        return {}

    @property
    def url(self) -> str:
        """Its address for people. Without secrets."""
        return f"{LOOPBACK}:{self.port}"

    def exited(self, code: int) -> None:  # noqa: B027 - most services have nothing to do then
        """Called when the process ended by itself, or was killed by others: with the code of `subprocess`."""

    def ended(self) -> None:  # noqa: B027 - most services have nothing to do then
        """Called after the process ended by itself or on request, not when it had to be killed."""


async def http_status(url: str) -> httpx.Response | None:
    """The answer to a GET, or None without an answer."""
    try:
        async with httpx.AsyncClient(timeout=PROBE_SECONDS, trust_env=False) as client:
            return await client.get(url)
    except httpx.HTTPError:
        return None


async def exchange(port: int, request: bytes, answer_bytes: int) -> bytes:
    """Send bytes to a local port and return the first bytes of the answer; b"" without an answer."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(request)
                return await reader.readexactly(answer_bytes)
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return b""
