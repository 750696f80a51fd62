"""The worker of the crash suite: started again after each death, with a list of its deaths."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vision_app.audit import Account

from .run import Tell
from .workers import END_SECONDS, WorkerProcess

POLL_SECONDS = 0.1


@dataclass
class CrashResult:
    """`deaths`: the points in order; `never`: the points that no round reached; `left`: unfinished work; `gave_up`: how
    often the worker ended by itself because Kafka was away.
    """

    deaths: list[str] = field(default_factory=list)
    never: list[str] = field(default_factory=list)
    rounds: int = 0
    left: str = ""
    gave_up: int = 0
    unexplained: list[str] = field(default_factory=list)
    account: Account | None = None


class CrashingWorker:
    """Starts a worker again after each death, and notes the point of the death.

    `passed`: the file in which the worker writes the points where it died. `raising`: the file that says which points
    raise which errors.
    """

    def __init__(self, process: WorkerProcess, passed: Path, raising: Path, result: CrashResult, tell: Tell) -> None:
        self.process = process
        self._passed, self._raising, self.result, self.tell = passed, raising, result, tell
        self._first = len(_points_in(passed))
        self._was_signalled = False
        self._endings = 0
        self.without_kafka = False  # then it may give up: it cannot start, or its tables are not confirmed

    async def keep_running(self) -> None:
        """Watch and restart the worker for ever."""
        await self.process.start()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self.process.ended_by_itself:
                await self._note_death()
                await self.process.start()

    async def _note_death(self) -> None:
        deaths = self.result.deaths
        known = await asyncio.to_thread(_points_in, self._passed)
        new = known[self._first + len(deaths) :]
        for point in new:
            deaths.append(point)
            self.tell(f"death {len(deaths)} at {point}")
        if not new:
            self._endings += 1
        if not new and not self._was_signalled and self.without_kafka:
            self.result.gave_up += 1
        elif not new and not self._was_signalled:
            self.result.unexplained.append(f"the worker ended at no point of ours; see {self.process.log}")
        self._was_signalled = False

    def restart(self) -> None:
        """Kill the worker, so that it starts with the present contents of its files."""
        self._was_signalled = True
        self.process.signal(signal.SIGKILL)

    async def stop_without_death(self) -> None:
        """Send SIGTERM again and again, until the worker stops without dying at a point."""
        endings = self._endings
        while self._endings == endings:
            await self.process.ready()
            deaths, self._was_signalled, started = len(self.result.deaths), True, time.monotonic()
            self.process.signal(signal.SIGTERM)
            while self._endings == endings and len(self.result.deaths) == deaths:
                if time.monotonic() - started > END_SECONDS:
                    self.result.unexplained.append(f"told to end, it had not after {END_SECONDS:.0f} s")
                    self.process.signal(signal.SIGKILL)
                    return
                await asyncio.sleep(POLL_SECONDS)

    async def raise_errors(self, errors: Sequence[str]) -> None:
        """Restart the worker, which from now on raises these errors; none if the sequence is empty."""
        await asyncio.to_thread(self._raising.write_text, "\n".join(errors), "utf-8")
        self.restart()


def _points_in(passed: Path) -> list[str]:
    return passed.read_text("utf-8").split() if passed.exists() else []
