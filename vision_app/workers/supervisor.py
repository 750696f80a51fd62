"""The program behind VISION_WORKERS: it runs the worker's processes, their one API and their one page of metrics.

It holds no data and takes no part in the work. SIGTERM or SIGINT ends all processes, each with the time that a worker
has for its calls in flight. If the supervisor is killed, the kernel ends them (Linux; `vision_app/stack/child.py`).
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
from dataclasses import dataclass

import httpx
import structlog
from aiohttp import web

from vision_app.settings import Settings, vision_home
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.services import PROBE_SECONDS
from vision_app.telemetry.logging import configure_logging
from vision_app.telemetry.metrics_page import MetricsServer, MetricsServerError, start_metrics_server
from vision_app.web.auth import known_host
from vision_app.web.errors import json_response, uniform
from vision_app.web.server import BoundedRunner, mark_busy

from .asking import Asker
from .command import PROGRAM, Several
from .health import Health
from .identity import worker_id
from .metrics_page import metrics_page
from .processes import Given, OneProcess, Processes
from .proxy import Proxy

log = structlog.get_logger(__name__)

EXIT_SETTINGS = 2


class PortTaken(Exception):
    """The API cannot be served. Free the address named below or set VISION_API_HOST and VISION_API_PORT."""


@dataclass(frozen=True)
class Patience:
    """How long a supervisor waits for its processes.

    `failures`: so many ends in a row without having been ready end the supervisor too, if no other process is ready.
    `slack_seconds`: after VISION_HANDLER_DEADLINE_SECONDS and this, a process is killed; a worker ends itself before.
    `ask_seconds`: for the answers of all processes to one question about health or metrics.
    """

    failures: int = 5
    slack_seconds: float = 15.0
    ask_seconds: float = 3.0


class Supervisor:
    """Runs `count` processes. `command`: what each is."""

    def __init__(
        self, settings: Settings, count: int, command: tuple[str, ...], patience: Patience | None = None
    ) -> None:
        self._settings, self._patience = settings, patience or Patience()
        self._key = secrets.token_urlsafe(24)
        self._ask = httpx.AsyncClient(timeout=PROBE_SECONDS, trust_env=False, verify=False)  # noqa: S501 - only http
        home, instance, base = Home(vision_home()), Instance(), worker_id(settings)
        stop_seconds = settings.vision_handler_deadline_seconds + self._patience.slack_seconds
        given = Given(settings, home, instance, base, command, self._key, stop_seconds)
        services = [OneProcess(given, number, self._ask, self._exited) for number in range(1, count + 1)]
        self.processes = Processes(services, asyncio.Event())
        self._asker = Asker(self.processes, self._patience.ask_seconds)
        self._health = Health(self.processes, self._asker)
        self._proxy = Proxy(settings, self.processes, self._key)
        self._ending = asyncio.Event()
        self.code = 0

    async def run(self) -> int:
        """Until SIGTERM or SIGINT, or until the processes are given up. Returns the exit code.

        Raises PortTaken or MetricsServerError.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._ending.set)
        runner = self._runner()
        page = await self._listen(runner)
        try:
            await self._keep_running()
        finally:
            await runner.cleanup()
            await self._proxy.close()
            await self._ask.aclose()
            page.close()
            self._asker.close()
        return self.code

    async def _listen(self, runner: BoundedRunner) -> MetricsServer:
        """Take both ports. Processes are started only if they are free."""
        health = {
            "/healthz": lambda: _page(self._health.alive()),
            "/readyz": lambda: _page(self._health.ready()),
        }
        page = start_metrics_server(self._settings, health, metrics=metrics_page(self._asker))
        host, port = self._settings.vision_api_host, self._settings.vision_api_port
        await self._proxy.open()
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as fault:
            page.close()
            await runner.cleanup()
            await self._proxy.close()
            raise PortTaken(
                f"cannot serve the API on {host}:{port}: {fault.strerror or fault}; another worker may hold it: "
                "stop it, or set VISION_API_PORT to a free port"
            ) from fault
        return page

    def _runner(self) -> BoundedRunner:
        app = web.Application(
            middlewares=[mark_busy, uniform, known_host(self._settings)],  # type: ignore[list-item]  # aiohttp's type is narrower
            client_max_size=self._settings.vision_api_max_body_bytes,
        )
        app.router.add_get("/healthz", self._alive)
        app.router.add_get("/readyz", self._ready)
        app.router.add_route("*", "/{path:.*}", self._proxy.handle)
        return BoundedRunner(
            app,
            max_connections=self._settings.vision_api_max_connections,
            idle_seconds=self._settings.vision_api_idle_seconds,
            cancel=True,
        )

    async def _alive(self, request: web.Request) -> web.Response:
        status, answer = await asyncio.to_thread(self._health.alive)
        return json_response(request, answer, status=status)

    async def _ready(self, request: web.Request) -> web.Response:
        status, answer = await asyncio.to_thread(self._health.ready)
        return json_response(request, answer, status=status)

    async def _keep_running(self) -> None:
        running = [asyncio.create_task(one.supervised.keep_running()) for one in self.processes.all]
        ending = asyncio.create_task(self._ending.wait())
        done, _ = await asyncio.wait([ending, *running], return_when=asyncio.FIRST_COMPLETED)
        for task in (ending, *running):
            task.cancel()
        log.info("processes_stopping", processes=len(running), exit_code=self.code)
        await asyncio.gather(*(one.supervised.stop() for one in self.processes.all))
        for task in done - {ending}:
            task.result()  # `keep_running` ends only by an error that nobody expected

    def _exited(self, service: OneProcess, code: int) -> None:
        """Decide whether to go on after a process has ended by itself."""
        if self._ending.is_set():
            return
        one = next(found for found in self.processes.all if found.service is service)
        failures, others_work = one.supervised.state.failures, any(other.is_ready for other in self.processes.all)
        status = code if code >= 0 else 128 - code
        if status == EXIT_SETTINGS:
            why = "its settings or its policy cannot be used; its last line says what to correct"
        elif failures >= self._patience.failures and not others_work:
            why = f"it has ended {failures} times in a row without being ready; its last lines say why"
        else:
            return
        self.code = status or 1
        log.critical("processes_given_up", process=service.name, why=why, exit_code=self.code, next_step=NEXT)
        self._ending.set()


NEXT = "run `vision doctor`, then start the worker again"


def _page(answer: tuple[int, object]) -> tuple[int, bytes]:
    status, body = answer
    return status, body.model_dump_json().encode()  # type: ignore[attr-defined]  # a pydantic model


def run(wish: Several) -> int:
    """Run the supervisor in this process. Returns its exit code."""
    settings, size = wish.settings, wish.size
    configure_logging(settings)
    log.info("processes_starting", processes=size.processes, why=size.why)
    if size.doubt:
        log.warning("processes_crowded", processes=size.processes, why=size.doubt, next_step=LESS)
    try:
        return asyncio.run(_supervise(settings, size.processes, (*PROGRAM, *wish.arguments)))
    except (PortTaken, MetricsServerError) as fault:
        print(fault, file=sys.stderr)
        return EXIT_SETTINGS


LESS = "lower VISION_WORKERS or VISION_DECODING_MEMORY_MB, or give the worker more memory"


async def _supervise(settings: Settings, count: int, command: tuple[str, ...]) -> int:
    return await Supervisor(settings, count, command).run()
