"""The process behind `vision up`: keeps the services and workers of one home running until it is told to stop.

One asyncio loop, one task per service, preparation (downloads, initialisation) in threads. SIGTERM or SIGINT stops
workers first, then the services. It tells what it does through `.vision/state.json` and writes `.vision/env`.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import psutil
import structlog

from vision_app.settings import SettingsError, load_settings, sources, vision_home
from vision_app.stack.errors import AlreadyRunningError, StackError
from vision_app.stack.files import rotate, rotate_in_use, write_atomically
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.leftovers import end_leftovers
from vision_app.stack.plan import INFRASTRUCTURE, Plan, Planner, Wish
from vision_app.stack.process import Identity, kill_tree, spawn
from vision_app.stack.services import Service
from vision_app.stack.state import Condition, ServiceState, StackState, write_state
from vision_app.stack.worker import COMMAND

POLL_SECONDS = 0.1
WORKER_CHECK_SECONDS = 2.0  # how often a ready worker is asked again
STATE_SECONDS = 1.0
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 1.0, 30.0
STABLE_SECONDS = 60.0  # alive this long, a service has earned a short backoff again
EXIT_ALREADY_RUNNING = 3
LOCK_TRIES = 10

logger = structlog.get_logger(__name__)


class Child:
    """One service and its process, through all restarts."""

    def __init__(self, service: Service, after: Sequence[Child] = ()) -> None:
        self.service = service
        self.state = ServiceState(
            name=service.name,
            url=service.url,
            port=service.port,
            stop_signal=int(service.stop_signal),
            stop_seconds=service.stop_seconds,
            is_worker=service.is_worker,
            log=str(service.home.log(service.name)),
        )
        self.ready = asyncio.Event()
        self.changed = asyncio.Event()
        self._after = after
        self._process: asyncio.subprocess.Process | None = None
        self._backoff = FIRST_BACKOFF_SECONDS
        self._gave_up = False  # on the process now running, because it did not become ready

    async def keep_running(self) -> None:
        """Start the service, and start it again whenever it ends. Runs until cancelled."""
        for other in self._after:
            self._tell(Condition.STARTING, f"waiting for {other.service.name}")
            await other.ready.wait()
        while True:
            try:
                await self._run_once()
            except (StackError, OSError) as error:
                self._failed(str(error))
            self.ready.clear()
            self._tell(Condition.BACKOFF, f"starting again in {self._backoff:.0f} s")
            await asyncio.sleep(self._backoff)
            self._backoff = min(self._backoff * 2, LONGEST_BACKOFF_SECONDS)
            self.state.restarts += 1

    async def _run_once(self) -> None:
        self._tell(Condition.STARTING, "preparing")
        await self._prepare()
        await self._start()
        process, started = self._process, time.monotonic()
        assert process is not None  # noqa: S101 -- just started
        watch = asyncio.create_task(self._watch_readiness())
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
            self._failed(_describe_exit(code, Path(self.state.log)))

    async def _prepare(self) -> None:
        loop = asyncio.get_running_loop()

        def progress(text: str) -> None:
            loop.call_soon_threadsafe(self._tell, Condition.STARTING, text)

        await asyncio.to_thread(self.service.prepare, progress)

    async def _start(self) -> None:
        self._gave_up = False
        environment = dict(os.environ) | self.service.environment()
        command, log = self.service.command(), Path(self.state.log)
        self._process = await spawn(command, environment, log, self.service.stop_signal, self.service.user)
        try:
            self.state.process = Identity.of(self._process.pid)
        except psutil.NoSuchProcess:
            return  # ended already; `wait` will say how
        self.state.started_at = time.time()
        self._tell(Condition.STARTING, "started")

    async def _watch_readiness(self) -> None:
        """Until first ready within `start_seconds`; for a worker ever after, since it may stop being ready."""
        deadline = time.monotonic() + self.service.start_seconds
        while missing := await self.service.waiting_for():
            self._tell(Condition.STARTING, f"waiting for {missing}")
            if time.monotonic() > deadline and not self.service.is_worker:
                self._gave_up = True
                self._failed(f"not ready after {self.service.start_seconds:.0f} s, still waiting for {missing}")
                self._kill()
                return
            await asyncio.sleep(POLL_SECONDS)
        self._became_ready()
        while self.service.is_worker:
            await asyncio.sleep(WORKER_CHECK_SECONDS)
            missing = await self.service.waiting_for()
            self._tell(Condition.STARTING if missing else Condition.READY, missing or "")

    def _became_ready(self) -> None:
        self.state.failures = 0
        self.ready.set()
        self._tell(Condition.READY, "")
        seconds = round(time.time() - (self.state.started_at or 0), 2)
        logger.info("service ready", service=self.service.name, seconds=seconds)

    async def stop(self) -> None:
        """End the process: its stop signal, after `stop_seconds` SIGKILL for it and all it started."""
        process = self._process
        if process is not None and process.returncode is None:
            self._tell(self.state.condition, "stopping")
            process.send_signal(self.service.stop_signal)
            try:
                await asyncio.wait_for(process.wait(), self.service.stop_seconds)
                self.service.ended()
            except TimeoutError:
                logger.warning("service killed", service=self.service.name, after_seconds=self.service.stop_seconds)
                self._kill()
                await process.wait()
        self.state.process = self.state.started_at = None
        self._tell(Condition.STOPPED, "")

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            kill_tree(psutil.Process(self._process.pid))

    def _failed(self, error: str) -> None:
        self.state.failures += 1
        self.state.last_error = error
        logger.error("service failed", service=self.service.name, error=error, log=self.state.log)

    def _tell(self, condition: Condition, detail: str) -> None:
        self.state.condition, self.state.detail = condition, detail
        self.changed.set()


class Supervisor:
    """All children of one home."""

    def __init__(self, home: Home, plan: Plan) -> None:
        self._home = home
        self._services = [Child(service) for service in plan.services]
        self._workers = [Child(worker, after=self._services) for worker in plan.workers]
        external = [ServiceState(name=n, condition=Condition.EXTERNAL, url=url) for n, url in plan.external.items()]
        states = [child.state for child in self._children()]
        self.state = StackState(supervisor=Identity.of(os.getpid()), gigachat=plan.gigachat, services=external + states)
        self._changed = asyncio.Event()

    def _children(self) -> list[Child]:
        return [*self._services, *self._workers]

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; returns when every process has ended."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        for child in self._children():
            rotate(Path(child.state.log))
            child.changed = self._changed
        publishing = asyncio.create_task(self._publish())
        running = [asyncio.create_task(child.keep_running()) for child in self._children()]
        await asyncio.wait([asyncio.create_task(stop.wait()), *running], return_when=asyncio.FIRST_COMPLETED)
        await self._stop(running)
        publishing.cancel()
        self._write_state()
        for task in running:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    async def _stop(self, running: list[asyncio.Task[None]]) -> None:
        self.state.stopping = True
        for task in running:
            task.cancel()
        await asyncio.gather(*(worker.stop() for worker in self._workers))
        await asyncio.gather(*(service.stop() for service in reversed(self._services)))

    async def _publish(self) -> None:
        while True:
            self._changed.clear()
            self._write_state()
            try:
                await asyncio.wait_for(self._changed.wait(), STATE_SECONDS)
                await asyncio.sleep(POLL_SECONDS / 2)  # several changes at once: one write
            except TimeoutError:
                continue

    def _write_state(self) -> None:
        try:
            write_state(self._home, self.state)
            for child in self._children():
                rotate_in_use(Path(child.state.log))
        except OSError as error:  # a full disk must not end the supervision
            logger.error("state not written", error=str(error), path=str(self._home.state))


def _describe_exit(code: int, log: Path) -> str:
    """How it ended, with the last line it printed as the likeliest explanation."""
    if code == -signal.SIGKILL:
        return "ended by SIGKILL"  # without a last word
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return f"ended {how}{_last_line(log)}"


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""


def _take_lock(home: Home) -> IO[str]:
    """Raises AlreadyRunningError. Tries for a second: a command that looks at the lock holds it for a moment."""
    home.root.mkdir(parents=True, exist_ok=True)
    lock = home.lock.open("w")
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(1 / LOCK_TRIES)
        else:
            return lock
    raise AlreadyRunningError(f"another supervisor serves {home.root}; stop it with `vision down`")


def _write_env(home: Home, plan: Plan) -> None:
    lines = [f"{name}={value}" for name, value in plan.variables().items()]
    head = "# Written by `vision up`: leads to the embedded services. The environment and .env take precedence."
    write_atomically(home.env, "\n".join([head, *lines]) + "\n")


def _arguments(argv: list[str] | None) -> Wish:
    parser = argparse.ArgumentParser(prog="python -m vision_app.stack.supervisor", description=__doc__)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--services", default=",".join(INFRASTRUCTURE), help="comma-separated")
    parser.add_argument("--worker-command", type=shlex.split, default=list(COMMAND))
    parsed = parser.parse_args(argv)
    services = tuple(name for name in parsed.services.split(",") if name)
    return Wish(services=services, workers=parsed.workers, worker_command=tuple(parsed.worker_command))


def main(argv: list[str] | None = None) -> int:
    """Returns 0 after a clean stop, 2 for unusable settings, 3 when there is a supervisor already."""
    wish, home = _arguments(argv), Home(vision_home())
    try:
        lock = _take_lock(home)
        settings = load_settings()
    except AlreadyRunningError as error:
        print(error, file=sys.stderr)
        return EXIT_ALREADY_RUNNING
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    with lock:
        end_leftovers(home)
        instance = Instance.load(home)
        plan = Planner(home, instance, settings, sources()).plan(wish)
        instance.save(home)
        _write_env(home, plan)
        # Not asyncio.run: that would wait for threads, and a download in one of them cannot be interrupted.
        asyncio.new_event_loop().run_until_complete(supervise(home, plan))
    return 0


async def supervise(home: Home, plan: Plan) -> None:
    """Keep what is planned running until SIGTERM or SIGINT."""
    await Supervisor(home, plan).run()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # whatever a thread is still downloading is checked at the next start
