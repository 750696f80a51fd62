"""Kills the worker during a run, while it waits for answers of paid calls: `vision demo --kill-worker`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from vision_app.stack import client
from vision_app.stack.errors import StackError
from vision_app.stack.home import Home

from .services import SimulatorAdmin

POLL_SECONDS = 0.05
SLOW_SECONDS = 3.0
SLOW_CALLS = 6  # as many as two tenants may have open at once; later calls are fast again


@dataclass(frozen=True)
class Killed:
    """The worker that was killed, and how often it had been restarted before."""

    worker: str
    restarts: int


async def kill_in_flight(home: Home, simulator: SimulatorAdmin, first: asyncio.Event, deadline: float) -> Killed:
    """After the first announcement, as soon as a call is in flight, SIGKILL the first worker.

    Raises StackError if no call is in flight until `deadline` or if there is no worker of ours.
    """
    try:
        await asyncio.wait_for(_in_flight(simulator, first), max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        raise StackError("no call was in flight, so no worker was killed; see `vision logs simulator`") from None
    state = client.live_state(home)
    for service in state.services if state else ():
        process = service.process.process() if service.is_worker and service.process else None
        if process is not None:
            process.kill()
            return Killed(service.name, service.restarts)
    raise StackError("there is no worker to kill; start one with `vision up`")


async def _in_flight(simulator: SimulatorAdmin, first: asyncio.Event) -> None:
    await first.wait()
    while not (await simulator.bill()).get("in_flight"):  # noqa: ASYNC110 - the event is in another process
        await asyncio.sleep(POLL_SECONDS)


async def restarts_since(home: Home, killed: Killed, deadline: float) -> int:
    """Wait until the stack is ready again; returns how often the killed worker was restarted. Raises StackError."""
    seconds = max(1.0, deadline - time.monotonic())
    state = await asyncio.to_thread(client.wait_ready, home, None, timeout=seconds)
    return state.service(killed.worker).restarts - killed.restarts
