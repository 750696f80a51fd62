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
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TextIO, cast

import orjson
import structlog

from vision_app.settings import SettingsError, load_settings, sources, stack_history, vision_home
from vision_app.stack.errors import AlreadyRunningError, StackError
from vision_app.stack.files import UnfailingText, rotate, rotate_in_use, write_atomically
from vision_app.stack.home import Home
from vision_app.stack.instance import Instance
from vision_app.stack.leftovers import end_leftovers
from vision_app.stack.orders import Order, forget_orders, read_orders
from vision_app.stack.plan import INFRASTRUCTURE, Planner, StackOptions, StackPlan
from vision_app.stack.process import Identity
from vision_app.stack.services import Service
from vision_app.stack.state import Condition, ServiceState, StackState, write_state
from vision_app.stack.supervised import Supervised
from vision_app.stack.worker import COMMAND

STATE_SECONDS = 1.0  # the highest age of the state
GATHER_SECONDS = 0.05  # changes within this time are written together
EXIT_ALREADY_RUNNING = 3
LOCK_TRIES = 10
HISTORY = 200  # entries of services that are remembered

logger = structlog.get_logger(__name__)


class Supervisor:
    """All children of one home."""

    def __init__(self, home: Home, plan: StackPlan) -> None:
        self._home = home
        self._changed = asyncio.Event()
        self._services = [Supervised(service, self._changed) for service in plan.services]
        self._workers = {number: self._supervised(worker) for number, worker in enumerate(plan.workers, start=1)}
        self._make_worker = plan.make_worker
        self._tasks: dict[Supervised, asyncio.Task[None]] = {}
        self._orders: Mapping[int, Order] = {}
        self._write_fault = ""  # why the state could not be written last
        external = [ServiceState(name=n, condition=Condition.EXTERNAL, url=url) for n, url in plan.external.items()]
        states = [child.state for child in self._children()]
        self.state = StackState(supervisor=Identity.of(os.getpid()), gigachat=plan.gigachat, services=external + states)

    def _supervised(self, worker: Service) -> Supervised:
        return Supervised(worker, self._changed, after=self._services)

    def _children(self) -> list[Supervised]:
        return [*self._services, *self._workers.values()]

    async def run(self) -> None:
        """Until SIGTERM or SIGINT; returns when every process has ended."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        for child in self._children():
            rotate(Path(child.state.log))
        publishing = asyncio.create_task(self._publish())
        self._tasks = {child: asyncio.create_task(child.keep_running()) for child in self._children()}
        stopping = asyncio.create_task(stop.wait())
        while not stopping.done() and not any(task.done() for task in self._tasks.values()):
            wakes = [stopping, *self._tasks.values()]
            await asyncio.wait(wakes, timeout=STATE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            await self._follow_orders(read_orders(self._home))
        await self._stop()
        publishing.cancel()
        self._write_state()
        for task in self._tasks.values():
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error

    async def _follow_orders(self, orders: Mapping[int, Order]) -> None:
        """Stop, start and restart the workers whose orders have changed."""
        changed = {number: order for number, order in orders.items() if order != self._orders.get(number)}
        restarted = {number for number in changed if orders[number].restarts > self._known(number).restarts}
        await asyncio.gather(
            *(self._end_worker(number) for number in changed if not orders[number].run or number in restarted)
        )
        for number, order in changed.items():
            if order.run:
                self._begin_worker(number)
            elif not order.listed and (gone := self._workers.pop(number, None)):
                self.state.services.remove(gone.state)
        self._orders = orders
        if changed:
            self._changed.set()

    def _known(self, number: int) -> Order:
        return self._orders.get(number, Order())

    async def _end_worker(self, number: int) -> None:
        if (worker := self._workers.get(number)) is None or (task := self._tasks.pop(worker, None)) is None:
            return
        task.cancel()
        await asyncio.wait([task])
        await worker.stop()
        logger.info("worker_stopped_by_order", service=worker.service.name)

    def _begin_worker(self, number: int) -> None:
        if number not in self._workers:
            if self._make_worker is None:
                return
            self._workers[number] = self._supervised(self._make_worker(number))
            self.state.services.append(self._workers[number].state)
        worker = self._workers[number]
        if worker not in self._tasks:
            logger.info("worker_started_by_order", service=worker.service.name)
            self._tasks[worker] = asyncio.create_task(worker.keep_running())

    async def _stop(self) -> None:
        self.state.stopping = True
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*(worker.stop() for worker in self._workers.values()))
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
        """A full disk must not end the supervision. `vision status` sees how old the last written state is."""
        self.state.written_at = time.time()
        try:
            write_state(self._home, self.state)
            for child in self._children():
                rotate_in_use(Path(child.state.log))
        except OSError as error:
            if (fault := str(error)) != self._write_fault:  # once, not every second
                logger.error("supervisor_state_not_written", error=fault, path=str(self._home.state))
            self._write_fault = fault
        else:
            self._write_fault = ""


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
    remember_env(plan)


def remember_env(plan: StackPlan) -> None:
    """Add what is written into `.vision/env` to its history, by which a later start knows its own values again."""
    written = [service.variables() for service in plan.services if service.variables()]
    try:
        history = orjson.loads(stack_history().read_bytes())
    except (OSError, ValueError):  # the first start, or half a file of a full disk
        history = []
    kept = [service for service in history if service not in written]
    write_atomically(stack_history(), orjson.dumps([*kept, *written][-HISTORY:], option=orjson.OPT_INDENT_2).decode())


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
    log = cast(TextIO, UnfailingText(sys.stderr.fileno()))
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(log))
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
        forget_orders(home)
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
