"""The crash suite: a worker dies once at every await that it passes, and an account is taken of its work.

One worker, started again after each death with the same file of points (`vision_app.lab.crash_points`), while rounds of
posts go through it; in some of them a second worker without crash points joins. The run ends when further rounds lead
to no new death.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from redis.asyncio import Redis

from vision_app.audit import Account, take_account
from vision_app.clients.redis import redis_client
from vision_app.lab.crash_points import RAISING, VARIABLE, points
from vision_app.lab.faults import Proxies, proxied
from vision_app.operations.backlog import await_idle
from vision_app.settings import load_settings
from vision_app.stores.s3 import S3Store

from .disturb import abandoning, company, poison, replay_letters
from .history import keep_ledger_history
from .operator import Operator
from .rounds import ERRORS, Round, nth
from .run import Tell, worker_environment, write_policy
from .traffic import Clock, publish_all, upload_all
from .workers import END_SECONDS, WorkerProcess

COMMAND = (sys.executable, "-m", "vision_app.lab.crash_worker", "--quiet", "worker", "--loglevel", "info")
QUIET_ROUNDS = 12  # the run ends after this many rounds without a death: then each kind of round came once more
MAX_ROUNDS = 60
ROUND_SECONDS = 1800.0
POLL_SECONDS = 0.1
OUTAGE_SECONDS = 6.0
PAUSE_SECONDS = 1.0
PLENTY_TOKENS, FEW_TOKENS = 1_000_000, 3_000
LATENCY = {"endpoint": "chat", "fault": {"kind": "latency", "seconds": 0.1, "max_seconds": 0.4}}
LONG_CALLS = {"endpoint": "chat", "fault": {"kind": "latency", "seconds": 4, "max_seconds": 6}}
LONG_CALL_SECONDS = 3.0  # after this time some of the calls are under way


Result = TypeVar("Result")


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


class Lives:
    """The worker's lives: starts it again after each death, and notes the point of the death."""

    def __init__(self, worker: WorkerProcess, passed: Path, result: CrashResult, tell: Tell) -> None:
        self.worker = worker
        self._passed, self.result, self.tell = passed, result, tell
        self._first = len(_points_in(passed))
        self._told = False
        self._endings = 0
        self.without_kafka = False  # then it may give up: it cannot start, or its tables are not confirmed

    async def go_on(self) -> None:
        """Watch and restart the worker for ever."""
        await self.worker.start()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if self.worker.ended_by_itself:
                await self._note()
                await self.worker.start()

    async def _note(self) -> None:
        deaths = self.result.deaths
        known = await asyncio.to_thread(_points_in, self._passed)
        new = known[self._first + len(deaths) :]
        for point in new:
            deaths.append(point)
            self.tell(f"death {len(deaths)} at {point}")
        if not new:
            self._endings += 1
        if not new and not self._told and self.without_kafka:
            self.result.gave_up += 1
        elif not new and not self._told:
            self.result.unexplained.append(f"the worker ended at no point of ours; see {self.worker.log}")
        self._told = False

    def begin_anew(self) -> None:
        """Kill the worker, so that it starts with the present contents of its files."""
        self._told = True
        self.worker.signal(signal.SIGKILL)

    async def end(self) -> None:
        """Send SIGTERM again and again, until the worker stops without dying at a point."""
        endings = self._endings
        while self._endings == endings:
            await self.worker.ready()
            deaths, self._told, started = len(self.result.deaths), True, time.monotonic()
            self.worker.signal(signal.SIGTERM)
            while self._endings == endings and len(self.result.deaths) == deaths:
                if time.monotonic() - started > END_SECONDS:
                    self.result.unexplained.append(f"told to end, it had not after {END_SECONDS:.0f} s")
                    self.worker.signal(signal.SIGKILL)
                    return
                await asyncio.sleep(POLL_SECONDS)


async def crash_everywhere(
    home: Path, run: str, variables: Mapping[str, str], tell: Tell, but: Collection[str] = ()
) -> CrashResult:
    """Let a worker die at every point except those in `but`. Raises what the stores raise when one of them is away."""
    settings = load_settings(**{name.lower(): value for name, value in variables.items()})
    result, started_ms = CrashResult(), int(time.time() * 1000)
    passed, raising = home / "crash-points", home / "raising-points"
    passed.write_text("".join(f"{point}\n" for point in but), "utf-8")
    async with AsyncExitStack() as stack:
        proxies = await stack.enter_async_context(proxied(variables))
        environment = {**variables, **proxies.env, **worker_environment(home)}
        environment |= {"VISION_MAX_DAILY_TOKENS": str(PLENTY_TOKENS), "VISION_OCR_FALLBACK_ENABLED": "true"}
        environment["VISION_PROVIDER_STREAMS"] = "2"  # so few that calls wait for a slot
        taken, told = set[int](), {VARIABLE: f"@{passed}", RAISING: f"@{raising}"}
        worker = WorkerProcess(1, {**environment, **told}, home / "logs", taken, COMMAND)
        redis = await stack.enter_async_context(redis_client(settings))
        s3 = S3Store(settings)
        await s3.open()
        stack.push_async_callback(s3.close)
        stack.push_async_callback(worker.kill)
        lives = Lives(worker, passed, result, tell)
        other = WorkerProcess(2, environment, home / "logs", taken)
        suite = Suite(home, run, variables, proxies, redis, s3, lives, other, raising)
        tenants = await _while_it_lives(lives.go_on(), suite.play_rounds())
        result.account = await take_account(settings, since_ms=started_ms, tenants=tenants)
    result.never = sorted(set(points()) - set(result.deaths) - set(but))
    return result


async def _while_it_lives(living: Coroutine[Any, Any, None], playing: Coroutine[Any, Any, Result]) -> Result:
    """Play while `living` restarts the worker; raises the error that ends either."""
    tasks = asyncio.create_task(living), asyncio.create_task(playing)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
        return await tasks[1]
    finally:
        for task in tasks:
            task.cancel()


def _points_in(passed: Path) -> list[str]:
    return passed.read_text("utf-8").split() if passed.exists() else []


@dataclass
class Suite:
    """The rounds, and the services that they use. `raising`: the file that tells the worker which points raise what."""

    home: Path
    run: str
    variables: Mapping[str, str]
    proxies: Proxies
    redis: Redis
    s3: S3Store
    lives: Lives
    other: WorkerProcess
    raising: Path

    def __post_init__(self) -> None:
        self.settings = load_settings(**{name.lower(): value for name, value in self.variables.items()})
        self.operator = Operator(self.settings, [self.lives.worker.url])
        self.result, self.tell = self.lives.result, self.lives.tell

    async def play_rounds(self) -> list[str]:
        """Play rounds until they lead to no new death. Returns the tenants of all rounds."""
        tenants: list[str] = []
        result, quiet = self.result, 0
        while quiet < QUIET_ROUNDS and result.rounds < MAX_ROUNDS and not result.left:
            now, deaths = nth(self.run, result.rounds), len(result.deaths)
            tenants += [now.tenant, now.poor]
            self.tell(f"round {result.rounds + 1}: {now.service or 'no service'} fails, {now.event or 'nothing else'}")
            self.lives.without_kafka = now.service == "kafka"
            write_policy(self.home, ocr=now.ocr, sampling=now.event == "sampling")
            async with self._company(now):
                await self._play(now)
                deadline = time.monotonic() + ROUND_SECONDS
                result.left = await self.operator.worked_off(self.redis, [now.tenant, now.poor], deadline)
            result.rounds += 1
            if result.rounds == 1:
                await keep_ledger_history(self.settings)
            quiet = quiet + 1 if len(result.deaths) == deaths else 0
        return tenants

    def _company(self, now: Round) -> AbstractAsyncContextManager[None]:
        return company(self.other) if now.event.startswith("a second worker") else nullcontext()

    async def _play(self, now: Round) -> None:
        await self.operator.provider_rules(
            [*now.rules, LONG_CALLS if now.event == "a second worker is killed" else LATENCY]
        )
        await self.operator.limit(now.poor, FEW_TOKENS)
        if now.event == "errors":
            await self._raise(ERRORS)
        media = await upload_all(self.s3, now.posts, 0)
        if now.event == "abandoned entries":
            async with abandoning(self.lives.worker, self.redis, self.settings):
                await publish_all(self.redis, self.settings, now.posts, media, Clock(0))
        else:
            await publish_all(self.redis, self.settings, now.posts, media, Clock(0))
        if now.event == "a second worker is killed":
            await asyncio.sleep(LONG_CALL_SECONDS)
            await self.other.kill()
        if now.event == "poison":
            await poison(self.settings, now.tenant)
        if now.service:
            self.proxies.proxies[now.service].inject("down")
            await asyncio.sleep(OUTAGE_SECONDS)
            self.proxies.heal()
        if now.event == "endings":
            await self.lives.end()
        await self._act(now)
        if now.event == "errors":
            await self._mend(now)
            await self.operator.command(now.tenant, "resume")  # operators' commands are among the letters, too
        await self.operator.limit(now.poor, PLENTY_TOKENS)

    async def _raise(self, errors: Sequence[str]) -> None:
        """From now on the worker raises these errors, in each of its lives."""
        await asyncio.to_thread(self.raising.write_text, "\n".join(errors), "utf-8")
        self.lives.begin_anew()

    async def _mend(self, now: Round) -> None:
        """As an operator after a bad release: start the good version, and replay the letters of the bad one."""
        left = await await_idle(self.redis, self.settings, time.monotonic() + ROUND_SECONDS)
        await self._raise(())
        for tenant in (now.tenant, now.poor):
            for error in ("Injected", "Oversized"):
                await replay_letters(self.variables, tenant, error)
        if left:
            self.result.unexplained.append(f"with errors, {left} was not worked off")

    async def _act(self, now: Round) -> None:
        if now.command == "deleted key":
            await self.redis.delete(f"budget:tenant:{now.poor}:*")
        elif now.command == "reset":
            await self.operator.command(now.poor, "reset")
        elif now.command == "pause and resume":
            await self.operator.command(now.tenant, "pause")
            await asyncio.sleep(PAUSE_SECONDS)
            await self.operator.command(now.tenant, "resume")
