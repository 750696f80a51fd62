"""Disturbs the brokers of an embedded cluster during a soak run, one disturbance at a time."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from redis.asyncio import Redis

from vision_app.lab.faults import Peers
from vision_app.settings import Settings
from vision_app.stack import client
from vision_app.stack.home import Home
from vision_app.stack.kafka import count_brokers
from vision_app.stack.state import Condition, ServiceState

from .plan import PlannedDisturbance
from .traffic import Clock

FREEZE_SECONDS = 15.0  # longer than the brokers' session of 4 s
CUT_SECONDS = 20.0
READY_SECONDS = 180.0
POLL_SECONDS = 0.2
SILENCE_WINDOW_SECONDS = 45.0


class BrokerLost(Exception):
    """A broker did not come back. Its log, named here, says why."""


@dataclass
class Brokers:
    """The brokers of the stack in `home`, and what was done to them."""

    home: Home
    peers: Peers
    count: int
    disturbances: list[dict[str, Any]] = field(default_factory=list)

    async def disturb(self, wanted: Sequence[PlannedDisturbance], clock: Clock) -> None:
        """Carry out each disturbance at its time, or later: when all brokers are there again after the one before."""
        for planned in wanted:
            await clock.wait_for(planned.at)
            started = time.time()
            target = self._controller() if planned.kind == "controller" else planned.broker
            await self._carry_out(target, planned)
            await self._all_there()
            self.disturbances.append(
                {
                    "at": round(clock.elapsed, 1),
                    "broker": f"kafka-{target}" if planned.kind != "rolling" else "all in turn",
                    "disturbance": planned.kind,
                    "seconds": round(time.time() - started, 1),
                    "started_ms": round(started * 1000),
                }
            )

    async def _carry_out(self, target: int, planned: PlannedDisturbance) -> None:
        match planned.kind:
            case "kill":
                await self._end(target, signal.SIGKILL)
            case "restart" | "controller":
                await self._end(target, signal.SIGTERM)
            case "rolling":
                for number in range(1, self.count + 1):
                    await self._end(number, signal.SIGTERM)
            case "freeze":
                pid = self._pid(target)
                os.kill(pid, signal.SIGSTOP)
                try:
                    await asyncio.sleep(FREEZE_SECONDS)
                finally:
                    os.kill(pid, signal.SIGCONT)
            case "cut":
                self.peers.cut(target, lambda: self._current_pid(target))
                try:
                    await asyncio.sleep(CUT_SECONDS)
                finally:
                    self.peers.heal()

    async def _end(self, number: int, with_signal: signal.Signals) -> None:
        """End a broker and wait until the supervisor has started it again and it has joined the cluster."""
        pid = self._pid(number)
        os.kill(pid, with_signal)
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            service = self._service(number)
            if service.condition is Condition.READY and service.process and service.process.pid != pid:
                return
            await asyncio.sleep(POLL_SECONDS)
        raise BrokerLost(f"{service.name} is not ready after {READY_SECONDS:.0f} s; see {service.log}")

    async def _all_there(self) -> None:
        """Wait until every broker says that all are alive."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            services = [self._service(number) for number in range(1, self.count + 1)]
            ports = [service.port for service in services if service.port is not None]
            if min(await asyncio.gather(*map(count_brokers, ports))) >= self.count:
                return
            await asyncio.sleep(POLL_SECONDS)
        raise BrokerLost(f"after {READY_SECONDS:.0f} s not all brokers are back; see {self.home.log('kafka-1').parent}")

    def _pid(self, number: int) -> int:
        service = self._service(number)
        if service.process is None:
            raise BrokerLost(f"{service.name} does not run; see {service.log}")
        return service.process.pid

    def _current_pid(self, number: int) -> int | None:
        process = self._service(number).process
        return process.pid if process else None

    def _service(self, number: int) -> ServiceState:
        state = client.live_state(self.home)
        if state is None:
            raise BrokerLost(f"the supervisor has ended; see {self.home.log('supervisor')}")
        return next(service for service in state.services if service.name == f"kafka-{number}")

    def _controller(self) -> int:
        """The active controller, as the brokers' files say; 1 if none says it."""
        for number in range(1, self.count + 1):
            path = self.home.data(f"kafka-{number}") / "log" / "__cluster_metadata-0" / "quorum-state"
            if path.exists() and (leader := int(orjson.loads(path.read_bytes()).get("leaderId", -1))) > 0:
                return leader
        return 1


async def longest_silences(
    redis: Redis, settings: Settings, disturbances: Sequence[Mapping[str, Any]], since_ms: int
) -> list[float]:
    """For each disturbance the longest time, in seconds, without an announcement, of those that began soon after it."""
    entries = await redis.xrange(settings.vision_output_stream, min=str(since_ms))
    times = [int(bytes(entry_id).partition(b"-")[0]) for entry_id, _ in entries]
    return [longest_silence(times, one["started_ms"], one["seconds"]) for one in disturbances]


def longest_silence(times_ms: Sequence[int], started_ms: int, seconds: float) -> float:
    """The longest gap, in seconds, between announcements at `times_ms`, of those that begin during a disturbance or up
    to SILENCE_WINDOW_SECONDS after it. A gap counts whole, also if it ends later.
    """
    last = started_ms + (SILENCE_WINDOW_SECONDS + seconds) * 1000
    places = [started_ms, *(at for at in times_ms if at >= started_ms)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(places) if earlier <= last]
    return round(max(gaps, default=0) / 1000, 1)
