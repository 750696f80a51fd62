"""The process behind `vision up`: keeps the services and workers of one home running until it is told to stop.

One asyncio loop, one task per service, preparation (downloads, initialisation) in threads. SIGTERM or SIGINT stops
workers first, then the services. It reports its state in `.vision/state.json` and writes `.vision/env`.
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
from pathlib import Path
from typing import IO

import structlog

from vision_app.settings import SettingsError, load_settings, sources, vision_home
from vision_app.stack.errors import AlreadyRunningError, StackError
from vision_app.stack.files import rotate, rotate_in_use, write_atomically
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.leftovers import end_leftovers
from vision_app.stack.plan import INFRASTRUCTURE, Planner, StackOptions, StackPlan
from vision_app.stack.process import Identity
from vision_app.stack.state import Condition, ServiceState, StackState, write_state
from vision_app.stack.supervised import Supervised
from vision_app.stack.worker import COMMAND

STATE_SECONDS = 1.0  # the highest age of the state
GATHER_SECONDS = 0.05  # changes within this time are written together
EXIT_ALREADY_RUNNING = 3
LOCK_TRIES = 10

logger = structlog.get_logger(__name__)


class Supervisor:
    """All children of one home."""

    def __init__(self, home: Home, plan: StackPlan) -> None:
        self._home = home
        self._changed = asyncio.Event()
        self._services = [Supervised(service, self._changed) for service in plan.services]
        self._workers = [Supervised(worker, self._changed, after=self._services) for worker in plan.workers]
        external = [ServiceState(name=n, condition=Condition.EXTERNAL, url=url) for n, url in plan.external.items()]
        states = [child.state for child in self._children()]
        self.state = StackState(supervisor=Identity.of(os.getpid()), gigachat=plan.gigachat, services=external + states)

    def _children(self) -> list[Supervised]:
        return [*self._services, *self._workers]

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; returns when every process has ended."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        for child in self._children():
            rotate(Path(child.state.log))
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
                await asyncio.sleep(GATHER_SECONDS)
            except TimeoutError:
                continue

    def _write_state(self) -> None:
        try:
            write_state(self._home, self.state)
            for child in self._children():
                rotate_in_use(Path(child.state.log))
        except OSError as error:  # a full disk must not end the supervision
            logger.error("supervisor_state_not_written", error=str(error), path=str(self._home.state))


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


def _write_env(home: Home, plan: StackPlan) -> None:
    lines = [f"{name}={value}" for name, value in plan.variables().items()]
    head = "# Written by `vision up`: leads to the embedded services. The environment and .env take precedence."
    write_atomically(home.env, "\n".join([head, *lines]) + "\n")


def _arguments(argv: list[str] | None) -> StackOptions:
    parser = argparse.ArgumentParser(prog="python -m vision_app.stack.supervisor", description=__doc__)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--services", default=",".join(INFRASTRUCTURE), help="comma-separated")
    parser.add_argument("--brokers", type=int, default=0)
    parser.add_argument("--broker-proxies", action="store_true")
    parser.add_argument("--worker-command", type=shlex.split, default=list(COMMAND))
    parsed = parser.parse_args(argv)
    services = tuple(name for name in parsed.services.split(",") if name)
    return StackOptions(
        services=services,
        workers=parsed.workers,
        worker_command=tuple(parsed.worker_command),
        brokers=parsed.brokers,
        broker_proxies=parsed.broker_proxies,
    )


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
        try:
            plan = Planner(home, instance, settings, sources()).plan(wish)
        except StackError as error:
            print(error, file=sys.stderr)
            return 2
        instance.save(home)
        _write_env(home, plan)
        # Not asyncio.run: that would wait for threads, and a download in one of them cannot be interrupted.
        asyncio.new_event_loop().run_until_complete(supervise(home, plan))
    return 0


async def supervise(home: Home, plan: StackPlan) -> None:
    """Keep what is planned running until SIGTERM or SIGINT."""
    await Supervisor(home, plan).run()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a thread's unfinished download is checked at the next start
