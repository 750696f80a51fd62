"""Starting, watching and stopping the embedded stack from another process: what `vision up` and the tests use."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from dotenv import dotenv_values

from vision_app.settings import every_variable
from vision_app.stack.errors import StackError
from vision_app.stack.files import rotate
from vision_app.stack.home import Home
from vision_app.stack.leftovers import end_leftovers
from vision_app.stack.orders import Order, change_orders
from vision_app.stack.plan import INFRASTRUCTURE, StackOptions
from vision_app.stack.process import end, tied_to_this_process
from vision_app.stack.state import Condition, ServiceState, StackState, read_state
from vision_app.stack.supervisor import EXIT_ALREADY_RUNNING
from vision_app.stack.worker import COMMAND
from vision_app.texts import heard, noted, say

POLL_SECONDS = 0.1
READY_SECONDS = 900.0  # the first start downloads 190 MB
FAILURES_TO_GIVE_UP = 3
FIRST_STATE_SECONDS = 10.0
ORDER_SECONDS = 270.0  # a worker that stops (75 s), then starts (180 s)
STOP_SECONDS = 150.0  # workers, then services, each with its own deadline

REMEDIES = {
    "no space left": noted("The disk is full: free at least 1 GB"),
    "address already in use": noted(
        "Another program took the port: `vision down`, then `vision up` chooses a free one"
    ),
    "cannot allocate memory": noted("There is too little memory: the stack takes about 1.5 GB"),
}

OnChange = Callable[[StackState], None]


@dataclass(frozen=True)
class SupervisorProcess:
    """A supervisor process that this process started."""

    process: subprocess.Popen[bytes]
    log: Path


def live_state(home: Home) -> StackState | None:
    """The state written by a live supervisor; None when nothing is running."""
    state = read_state(home)
    return state if state is not None and state.supervisor.process() is not None else None


def start(
    home: Home,
    wish: StackOptions,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    with_parent: bool = False,
) -> SupervisorProcess:
    """Start a supervisor in the background; `with_parent`: it ends when this process ends (on Linux)."""
    log = home.log("supervisor")
    log.parent.mkdir(parents=True, exist_ok=True)
    rotate(log)
    command = [sys.executable, "-m", "vision_app.stack.supervisor", f"--workers={wish.workers}"]
    command += [f"--services={','.join(wish.services)}", f"--worker-command={shlex.join(wish.worker_command)}"]
    command += [f"--brokers={wish.brokers}"] + (["--broker-proxies"] if wish.broker_proxies else [])
    if with_parent:
        command = [*tied_to_this_process(signal.SIGTERM), *command]
    inherited = os.environ if environment is None else environment
    child_environment = dict(inherited) | {"VISION_HOME": str(home.root)}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=child_environment,
            cwd=folder,
            start_new_session=True,
        )
    return SupervisorProcess(process, log)


def wait_ready(
    home: Home,
    supervisor: SupervisorProcess | None,
    on_change: OnChange = lambda _: None,
    timeout: float = READY_SECONDS,
) -> StackState:
    """Wait until every service and worker is ready.

    Raises StackError, naming the service, its log and the remedy, when one has failed three times in a row, when the
    supervisor ends, or when the time is over.
    """
    deadline, last = time.monotonic() + timeout, ""
    while time.monotonic() < deadline:
        state = _current(home, supervisor)
        if state is not None and (told := state.model_dump_json(exclude={"written_at"})) != last:
            last = told
            on_change(state)
        if state is not None and state.is_ready:
            return state
        _check(state, home, supervisor)
        time.sleep(POLL_SECONDS)
    raise StackError(_not_ready(live_state(home), timeout))


def scale(home: Home, workers: int) -> None:
    """Have a running supervisor run workers 1 to `workers` and no others. Raises StackError."""
    state = _running(home)
    present = {number_of(service) for service in state.services if service.is_worker}
    wanted = set(range(1, workers + 1))
    change_orders(home, sorted(wanted), lambda order: order.model_copy(update={"run": True, "listed": True}))
    change_orders(
        home, sorted(present - wanted), lambda order: order.model_copy(update={"run": False, "listed": False})
    )

    def done(now: StackState) -> bool:
        listed = {number_of(s): s for s in now.services if s.is_worker}
        return listed.keys() == wanted and all(s.condition is not Condition.STOPPED for s in listed.values())

    _await_order(home, done, say("{workers} workers", workers=workers))


def order_workers(home: Home, action: Literal["stop", "start", "restart"], numbers: Sequence[int]) -> list[str]:
    """Stop, start or restart these workers of a running stack, or all; returns their names when it is done.

    Raises StackError if there is no such worker, or if it takes longer than a start may.
    """
    state = _running(home)
    workers = {number_of(service): service for service in state.services if service.is_worker}
    chosen = list(numbers) or sorted(workers)
    if unknown := [number for number in chosen if number not in workers]:
        known = ", ".join(map(str, workers)) or "none"
        raise StackError(
            say(
                "there is no worker {numbers}; there are {known}, and `vision up --workers N` runs N",
                numbers=", ".join(map(str, unknown)),
                known=known,
            )
        )
    before = {number: workers[number].process for number in chosen}
    change_orders(home, chosen, lambda order: _ordered(order, action))

    def done(now: StackState) -> bool:
        found = {number_of(s): s for s in now.services if s.is_worker and number_of(s) in chosen}
        if action == "stop":
            return all(service.condition is Condition.STOPPED for service in found.values())
        return all(
            service.condition is Condition.READY and (action == "start" or service.process != before[number])
            for number, service in found.items()
        )

    _await_order(
        home, done, say("the {action} of worker {numbers}", action=action, numbers=", ".join(map(str, chosen)))
    )
    return [workers[number].name for number in chosen]


def number_of(worker: ServiceState) -> int:
    """The number in a worker's name."""
    return int(worker.name.removeprefix("worker-"))


def _ordered(order: Order, action: str) -> Order:
    restarts = order.restarts + (action == "restart")
    return order.model_copy(update={"run": action != "stop", "restarts": restarts})


def _running(home: Home) -> StackState:
    state = live_state(home)
    if state is None:
        raise StackError(
            say("`vision up` runs nothing here, so there is no worker to order about; start it with `vision up`")
        )
    return state


def _await_order(home: Home, done: Callable[[StackState], bool], what: str) -> None:
    deadline = time.monotonic() + ORDER_SECONDS
    while not done(state := _running(home)):
        _check(state, home, None)
        if time.monotonic() > deadline:
            raise StackError(
                say(
                    "{what}: not done after {seconds:.0f} s; `vision status` shows what runs, the log of "
                    "the supervisor why: {log}",
                    what=what,
                    seconds=ORDER_SECONDS,
                    log=home.log("supervisor"),
                )
            )
        time.sleep(POLL_SECONDS)


def stop(home: Home, on_change: OnChange = lambda _: None) -> list[str]:
    """Stop the supervisor, everything it started, and leftover processes of an earlier one.

    Returns the names of the processes that were running; they have ended when this returns.
    """
    found = []
    state = _state_once_written(home)
    if state is not None and (process := state.supervisor.process()) is not None:
        found = ["supervisor", *(service.name for service in state.services if service.process)]
        _end_supervisor(home, process, on_change)
    return found + [name for name in end_leftovers(home) if name not in found]


@contextmanager
def running_stack(
    home: Path,
    services: tuple[str, ...] = INFRASTRUCTURE,
    worker: bool = False,
    environment: Mapping[str, str] | None = None,
    worker_command: tuple[str, ...] = COMMAND,
    brokers: int = 0,
    broker_proxies: bool = False,
) -> Iterator[dict[str, str]]:
    """For tests: only the named services (and one worker) on free ports, with their data in `home`.

    Yields the variables to use, VISION_HOME among them. Settings in `environment` are used, those of this process'
    environment are not. Everything is stopped at the end, also when this process is killed.
    """
    place = Home(home.absolute())
    place.root.mkdir(parents=True, exist_ok=True)
    given = _without_settings(os.environ) | {"VISION_API_PORT": "0", "METRICS_PORT": "0"} | dict(environment or {})
    wish = StackOptions(services, 1 if worker else 0, worker_command, brokers, broker_proxies)
    supervisor = start(place, wish, given, folder=place.root, with_parent=True)
    try:
        wait_ready(place, supervisor)
        yield {name: value or "" for name, value in dotenv_values(place.env).items()} | {"VISION_HOME": str(place.root)}
    finally:
        stop(place)
        supervisor.process.wait()


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    settings = every_variable()
    return {name: value for name, value in environment.items() if name.upper() not in settings}


def _current(home: Home, supervisor: SupervisorProcess | None) -> StackState | None:
    """The live state; ignores the state of an earlier supervisor while ours has not written one yet."""
    state = live_state(home)
    if state is None or supervisor is None or supervisor.process.poll() == EXIT_ALREADY_RUNNING:
        return state
    return state if state.supervisor.pid == supervisor.process.pid else None


def _check(state: StackState | None, home: Home, supervisor: SupervisorProcess | None) -> None:
    code = supervisor.process.poll() if supervisor else None
    if supervisor and code is not None and code != EXIT_ALREADY_RUNNING:
        raise StackError(
            say(
                "the supervisor ended with exit code {code}: {tail} (log: {log})",
                code=code,
                tail=_tail(supervisor.log),
                log=supervisor.log,
            )
        )
    if supervisor is None and state is None:
        raise StackError(say("the supervisor ended before everything was ready; see {log}", log=home.log("supervisor")))
    for service in state.services if state else ():
        if service.failures >= FAILURES_TO_GIVE_UP and service.condition is not Condition.READY:
            raise StackError(
                _failure(
                    service,
                    say(
                        "does not start: {last_error}{remedy}",
                        last_error=heard(service.last_error),
                        remedy=_remedy(service.last_error),
                    ),
                )
            )
        if service.is_worker and service.condition is Condition.STARTING and _age(service) > service.start_seconds:
            raise StackError(
                _failure(
                    service,
                    say(
                        "is not ready after {seconds:.0f} s: {detail}",
                        seconds=service.start_seconds,
                        detail=heard(service.detail),
                    ),
                )
            )


def _age(service: ServiceState) -> float:
    return time.time() - service.started_at if service.started_at else 0.0


def _failure(service: ServiceState, what: str) -> str:
    return say(
        "{name} {what}\nLog: {log} (`vision logs {name}`). The supervisor keeps trying; `vision doctor` "
        "looks for the cause, `vision down` stops everything.",
        name=service.name,
        what=what,
        log=service.log,
    )


def _remedy(error: str) -> str:
    """Advice for errors of foreign programs whose text does not say what to do."""
    return next((f". {remedy}" for sign, remedy in REMEDIES.items() if sign.lower() in error.lower()), "")


def _not_ready(state: StackState | None, timeout: float) -> str:
    missing = [s for s in state.services if s.condition not in (Condition.READY, Condition.EXTERNAL)] if state else []
    lines = [
        say("{name}: {last_error} (log: {log})", name=s.name, last_error=heard(s.last_error or s.detail), log=s.log)
        for s in missing
    ]
    return "\n".join(
        [
            say("not everything is ready after {timeout:.0f} s; `vision doctor` looks for the cause.", timeout=timeout),
            *lines,
        ]
    )


def _state_once_written(home: Home) -> StackState | None:
    """The live state; waits for the first state of a supervisor that has just started."""
    deadline = time.monotonic() + FIRST_STATE_SECONDS
    while (state := live_state(home)) is None and _is_locked(home) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return state


def _is_locked(home: Home) -> bool:
    """Whether a supervisor holds the lock of this home."""
    if not home.lock.exists():
        return False
    with home.lock.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _tail(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").strip().splitlines()[-3:])[-800:]


def _end_supervisor(home: Home, process: psutil.Process, on_change: OnChange) -> None:
    try:
        process.terminate()
    except psutil.NoSuchProcess:
        return
    deadline = time.monotonic() + STOP_SECONDS
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        if state := read_state(home):
            on_change(state)
        time.sleep(POLL_SECONDS)
    end([(process, signal.SIGKILL, 5.0)] if process.is_running() else [])
