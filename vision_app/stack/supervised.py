"""One service under supervision: prepared, started, watched until it is ready, started again when it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import structlog

from vision_app.stack.errors import StackError
from vision_app.stack.files import size_of
from vision_app.stack.process import Identity, kill_tree, spawn
from vision_app.stack.services import Service
from vision_app.stack.state import Condition, ServiceState
from vision_app.texts import noted, say

POLL_SECONDS = 0.1
WORKER_CHECK_SECONDS = 2.0  # how often a ready worker is asked again
SERVICE_CHECK_SECONDS = 5.0  # and any other service
MISSED_LOOKS = 2  # so many looks without an answer in a row mean that it does not answer
LOOK_FAILED = noted("a look at it that does not fail")
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 1.0, 30.0
LAST_BYTES = 64 * 1024  # the end of a log that is searched for the reason of an exit; a traceback is one long line
STABLE_SECONDS = 60.0  # after this uptime the backoff is short again

logger = structlog.get_logger(__name__)


class Supervised:
    """One service and its process, through all restarts."""

    def __init__(self, service: Service, changed: asyncio.Event, after: Sequence[Supervised] = ()) -> None:
        self.service = service
        self.state = ServiceState(
            name=service.name,
            url=service.url,
            port=service.port,
            stop_signal=int(service.stop_signal),
            stop_seconds=service.stop_seconds,
            is_worker=service.is_worker,
            metrics_port=service.metrics_port,
            start_seconds=service.start_seconds,
            log=str(service.log or ""),
        )
        self.ready = asyncio.Event()
        self._changed = changed
        self._after = after
        self.look_seconds = WORKER_CHECK_SECONDS if service.is_worker else SERVICE_CHECK_SECONDS
        self._process: asyncio.subprocess.Process | None = None
        self._backoff = FIRST_BACKOFF_SECONDS
        self._missed = 0  # looks in a row without an answer
        self._look_fault = ""  # why the last look failed; empty if it did not
        self._gave_up = False  # on the process now running, because it did not become ready
        self._log_begins = 0  # where in the log the lines of the process now running begin

    async def keep_running(self) -> None:
        """Start the service, and start it again whenever it ends. Runs until cancelled."""
        for other in self._after:
            self._tell(Condition.STARTING, say("waiting for {name}", name=other.service.name))
            await other.ready.wait()
        while True:
            try:
                await self._run_once()
            except (StackError, OSError) as error:
                self._failed(str(error))
            self.ready.clear()
            self._tell(Condition.BACKOFF, say("starting again in {backoff:.0f} s", backoff=self._backoff))
            await asyncio.sleep(self._backoff)
            self._backoff = min(self._backoff * 2, LONGEST_BACKOFF_SECONDS)
            self.state.restarts += 1

    async def _run_once(self) -> None:
        self._tell(Condition.STARTING, say("preparing"))
        await self._prepare()
        await self._start()
        process, started = self._process, time.monotonic()
        assert process is not None  # noqa: S101 - just started
        watch = asyncio.create_task(self._watch_readiness())
        watch.add_done_callback(self._watch_ended)
        try:
            code = await process.wait()
        finally:
            watch.cancel()
        if time.monotonic() - started > STABLE_SECONDS:
            self._backoff = FIRST_BACKOFF_SECONDS
        self._process = self.state.process = self.state.started_at = None
        if code in (0, -self.service.stop_signal, 128 + self.service.stop_signal):
            self.service.ended()
        if not self._gave_up:
            self._failed(_describe_exit(code, self.service.log, self._log_begins))
        self.service.exited(code)

    async def _prepare(self) -> None:
        loop = asyncio.get_running_loop()

        def progress(text: str) -> None:
            loop.call_soon_threadsafe(self._tell, Condition.STARTING, text)

        await asyncio.to_thread(self.service.prepare, progress)

    async def _start(self) -> None:
        self._gave_up = False
        service, log = self.service, self.service.log
        environment = service.inherited() | service.environment()
        self._log_begins = size_of(log) if log else 0
        self._process = await spawn(
            service.command(), environment, log, service.stop_signal, service.user, service.own_session
        )
        try:
            self.state.process = Identity.of(self._process.pid)
        except psutil.NoSuchProcess:
            return  # ended already; the wait below returns its exit code
        self.state.started_at = time.time()
        self._tell(Condition.STARTING, say("started"))

    async def _watch_readiness(self) -> None:
        """Wait up to `start_seconds` until the service is ready. Then look regularly whether it still is."""
        deadline = time.monotonic() + self.service.start_seconds
        while missing := await self._missing():
            self._tell(Condition.STARTING, say("waiting for {missing}", missing=missing))
            if time.monotonic() > deadline and not self.service.is_worker:
                self._gave_up = True
                self._failed(
                    say(
                        "not ready after {start_seconds:.0f} s, still waiting for {missing}",
                        start_seconds=self.service.start_seconds,
                        missing=missing,
                    )
                )
                self._kill()
                return
            await asyncio.sleep(POLL_SECONDS)
        self._became_ready()
        while True:
            await self._look_again()

    async def _look_again(self) -> None:
        """One look at a service that was ready: it may be frozen, its disk may be full, a worker may wait."""
        service = self.service
        await asyncio.sleep(self.look_seconds)
        missing = await self._missing()
        self._missed = self._missed + 1 if missing else 0
        if missing is None:
            self._change_to(Condition.READY, "")
        elif service.is_worker and missing != service.no_answer and not missing.startswith(say(LOOK_FAILED)):
            self._change_to(Condition.STARTING, missing)
        elif self._missed >= MISSED_LOOKS:  # one may be missed under load
            self._change_to(Condition.NOT_ANSWERING, say("waiting for {missing}", missing=missing))

    async def _missing(self) -> str | None:
        """What the service waits for; None if it is ready. A look that fails is no answer: the next one may succeed."""
        try:
            missing = await self.service.waiting_for()
        except Exception as fault:
            if (missing := f"{say(LOOK_FAILED)} ({fault!r})") != self._look_fault:
                logger.exception("service_look_failed", service=self.service.name)
            self._look_fault = missing
            return missing
        self._look_fault = ""
        return missing

    def _change_to(self, condition: Condition, detail: str) -> None:
        """Tell a condition, and log it if it is another one."""
        if condition is not self.state.condition:
            said = {"service": self.service.name, "condition": str(condition), "detail": detail}
            if condition is Condition.NOT_ANSWERING:
                logger.warning("service_not_answering", **said)
            else:
                logger.info("service_condition_changed", **said)
        if (condition, detail) != (self.state.condition, self.state.detail):
            self._tell(condition, detail)

    def _watch_ended(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled() and (error := watch.exception()):
            self._failed(say("cannot tell whether it is ready: {error!r}", error=error))

    def _became_ready(self) -> None:
        self.state.failures = self._missed = 0
        self.ready.set()
        self._tell(Condition.READY, "")
        seconds = round(time.time() - (self.state.started_at or 0), 2)
        logger.info("service_ready", service=self.service.name, seconds=seconds)

    async def stop(self) -> None:
        """End the process by its stop signal; after `stop_seconds` SIGKILL it and all its children."""
        process = self._process
        if process is not None and process.returncode is None:
            self._tell(self.state.condition, say("stopping"))
            process.send_signal(self.service.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), self.service.stop_seconds)
                self.service.ended()
            except TimeoutError:
                logger.warning("service_killed", service=self.service.name, after_seconds=self.service.stop_seconds)
                self._kill()
                await process.wait()
        self.state.process = self.state.started_at = None
        self._tell(Condition.STOPPED, "")

    def _kill(self) -> None:
        if self.state.process is not None and (process := self.state.process.process()):
            kill_tree(process)

    def _failed(self, error: str) -> None:
        self.state.failures += 1
        self.state.last_error = error
        logger.error("service_failed", service=self.service.name, error=error, log=self.state.log)

    def _tell(self, condition: Condition, detail: str) -> None:
        self.state.condition, self.state.detail = condition, detail
        self._changed.set()


def _describe_exit(code: int, log: Path | None, begins: int) -> str:
    """How the process ended, with the last error in its log, else its last line, as the likely reason."""
    if code == -signal.SIGKILL:
        return say("ended by SIGKILL")  # it logged nothing
    how = say("by {name}", name=signal.Signals(-code).name) if code < 0 else say("with exit code {code}", code=code)
    return say("ended {how}{last_words}", how=how, last_words=_last_words(log, begins) if log else "")


def _last_words(log: Path, begins: int) -> str:
    with log.open("rb") as file:
        size = log.stat().st_size
        file.seek(max(0, begins if begins <= size else 0, size - LAST_BYTES))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [told for line in lines if (told := _error_in(line))]
    advice = [text for text, has_advice in errors if has_advice]
    found = [*lines[-1:], *(text for text, _ in errors[-1:]), *advice[-1:]]
    return f": {found[-1][:300]}" if found else ""


def _error_in(line: str) -> tuple[str, bool] | None:
    """The text of a worker's log line of level error or above, and whether it says what to do; None for other lines."""
    if not line.startswith("{"):
        return None
    try:
        told = json.loads(line)
    except ValueError:
        return None
    if told.get("level") not in ("error", "critical"):
        return None
    said = [str(told[name]) for name in ("event", "what", "error", "next_step", "remedy") if told.get(name)]
    return ": ".join(said), "next_step" in told
