"""Disturbs the workers and services of a soak run, and measures how long they need to recover."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vision_app.lab.faults import FaultProxy

from .brokers import Brokers
from .plan import PlannedDisturbance, PlannedOutage, PlannedSignal
from .traffic import Clock
from .workers import WorkerProcess

DOWN_SECONDS = 0.5  # between a worker's end and its next start, as with a supervisor
FREEZE_BEYOND_SECONDS = 5.0  # longer than the session: the group counts the frozen worker as dead

# The provider's behaviour without outages: answers take as long as real ones, and some fail.
SLOW_ANSWERS: dict[str, Any] = {
    "endpoint": "chat",
    "fault": {"kind": "latency", "seconds": 0.2, "max_seconds": 1.5},
}
PROVIDER_RULES: list[dict[str, Any]] = [
    SLOW_ANSWERS,
    {"endpoint": "chat", "probability": 0.03, "fault": {"kind": "status", "status": 429, "retry_after": 1}},
    {"endpoint": "chat", "probability": 0.02, "fault": {"kind": "status", "status": 503}},
    {"endpoint": "chat", "probability": 0.02, "fault": {"kind": "reset"}},
    {"endpoint": "chat", "probability": 0.02, "fault": {"kind": "malformed", "name": "prose"}},
    {"endpoint": "chat", "probability": 0.01, "fault": {"kind": "refusal"}},
]


@dataclass
class Chaos:
    """The disturbances, for the report."""

    signals: list[dict[str, Any]] = field(default_factory=list)
    outages: list[dict[str, Any]] = field(default_factory=list)
    ended_by_themselves: list[str] = field(default_factory=list)
    brokers: Brokers | None = None

    async def send_signals(
        self, signals: Sequence[PlannedSignal], workers: Sequence[WorkerProcess], clock: Clock, session_seconds: float
    ) -> None:
        """Carry out every blow (kill, SIGTERM, freeze) at its time."""
        for blow in signals:
            await clock.wait_for(blow.at)
            worker = workers[blow.worker]
            seconds = await _send_signal(worker, blow, session_seconds)
            self.signals.append({"at": round(clock.elapsed, 1), "worker": worker.name, "blow": blow.signal, **seconds})

    async def disturb_brokers(self, wanted: Sequence[PlannedDisturbance], clock: Clock) -> None:
        """Disturb the brokers, if there are several."""
        if self.brokers is not None:
            await self.brokers.disturb(wanted, clock)

    async def watch(self, workers: Sequence[WorkerProcess]) -> None:
        """For ever: restart workers that end without a blow."""
        while True:
            await asyncio.sleep(DOWN_SECONDS)
            for worker in workers:
                if worker.ended_by_itself:
                    self.ended_by_themselves.append(worker.name)
                    await worker.start()

    async def break_services(
        self, outages: Sequence[PlannedOutage], proxies: Mapping[str, FaultProxy], clock: Clock
    ) -> None:
        """Let every service fail as planned: time, kind of fault, seconds."""
        for outage in outages:
            await clock.wait_for(outage.at)
            proxies[outage.service].inject(outage.fault)
            self.outages.append(
                {"at": round(clock.elapsed, 1), "service": outage.service, "fault": outage.fault, "s": outage.seconds}
            )
            await asyncio.sleep(outage.seconds)
            proxies[outage.service].heal()


async def _send_signal(worker: WorkerProcess, blow: PlannedSignal, session_seconds: float) -> dict[str, float]:
    if blow.signal == "freeze":
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(session_seconds + FREEZE_BEYOND_SECONDS)
        worker.signal(signal.SIGCONT)
        return {"seconds": session_seconds + FREEZE_BEYOND_SECONDS}
    started = time.monotonic()
    if blow.signal == "kill":
        await worker.kill()
    else:
        await worker.terminate()
    ended = time.monotonic() - started
    await asyncio.sleep(DOWN_SECONDS)
    await worker.start()
    return {"seconds": round(ended, 2)}
