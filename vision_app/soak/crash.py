"""The crash suite: a worker that dies once at every await it passes, and the account of what it had to do meanwhile.

One worker, started again after each death with the same file of points (`vision_app.crash_points`), while rounds
of posts go through it. The run ends when rounds bring no new death any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis

from vision_app.accounting import Account, take_account
from vision_app.crash_points import VARIABLE, points
from vision_app.faults import Proxies, proxied
from vision_app.settings import Settings, load_settings
from vision_app.stores.s3 import S3Store

from .history import keep_ledger_history
from .operator import Operator
from .rounds import Round, nth
from .run import Tell, worker_environment, write_policy
from .traffic import Clock, publish_all, upload_all
from .workers import WorkerProcess

QUIET_ROUNDS = 12  # so many rounds without a death end the run: each kind of round has had its turn again
MAX_ROUNDS = 60
ROUND_SECONDS = 1800.0
POLL_SECONDS = 0.1
OUTAGE_SECONDS = 6.0
PAUSE_SECONDS = 1.0
PLENTY_TOKENS, FEW_TOKENS = 1_000_000, 3_000
LATENCY = {"endpoint": "chat", "fault": {"kind": "latency", "seconds": 0.1, "max_seconds": 0.4}}


@dataclass
class CrashResult:
    """`deaths`: the points in their order; `never`: those that no round led through; `left`: unfinished work."""

    deaths: list[str] = field(default_factory=list)
    never: list[str] = field(default_factory=list)
    rounds: int = 0
    left: str = ""
    unexplained: list[str] = field(default_factory=list)
    account: Account | None = None


async def crash_everywhere(home: Path, run: str, variables: Mapping[str, str], tell: Tell) -> CrashResult:
    """Let a worker die everywhere. Raises what the stores raise when one of them is away."""
    settings = load_settings(**{name.lower(): value for name, value in variables.items()})
    result, passed, started_ms = CrashResult(), home / "crash-points", int(time.time() * 1000)
    async with AsyncExitStack() as stack:
        proxies = await stack.enter_async_context(proxied(variables))
        environment = {**variables, **proxies.env, **worker_environment(home), VARIABLE: f"@{passed}"}
        environment |= {"VISION_MAX_DAILY_TOKENS": str(PLENTY_TOKENS), "VISION_OCR_FALLBACK_ENABLED": "true"}
        worker = WorkerProcess(1, environment, home / "logs", set())
        redis = await stack.enter_async_context(Redis.from_url(settings.redis_url.get_secret_value()))
        s3 = S3Store(settings)
        await s3.open()
        stack.push_async_callback(s3.close)
        stack.push_async_callback(worker.kill)
        reviving = asyncio.create_task(_revive(worker, passed, result, tell))
        stack.callback(reviving.cancel)
        operator = Operator(settings, [worker])
        tenants = await _rounds(home, run, settings, operator, proxies, redis, s3, result, tell)
        result.account = await take_account(settings, since_ms=started_ms, tenants=tenants)
    result.never = sorted(set(points()) - set(result.deaths))
    return result


async def _revive(worker: WorkerProcess, passed: Path, result: CrashResult, tell: Tell) -> None:
    """For ever: start the worker whenever it has died, and note where it did."""
    await worker.start()
    while True:
        await asyncio.sleep(POLL_SECONDS)
        if not worker.ended_by_itself:
            continue
        known = await asyncio.to_thread(_points_in, passed)
        if len(known) == len(result.deaths):
            result.unexplained.append(f"the worker ended at no point of ours; see {worker.log}")
        for point in known[len(result.deaths) :]:
            tell(f"death {len(known)} at {point}")
        result.deaths = known
        await worker.start()


def _points_in(passed: Path) -> list[str]:
    return passed.read_text("utf-8").split() if passed.exists() else []


async def _rounds(
    home: Path,
    run: str,
    settings: Settings,
    operator: Operator,
    proxies: Proxies,
    redis: Redis,
    s3: S3Store,
    result: CrashResult,
    tell: Tell,
) -> list[str]:
    """Round after round until nothing new happens. Returns the tenants of all rounds."""
    tenants: list[str] = []
    quiet = 0
    while quiet < QUIET_ROUNDS and result.rounds < MAX_ROUNDS and not result.left:
        now, deaths = nth(run, result.rounds), len(result.deaths)
        tenants += [now.tenant, now.poor]
        tell(f"round {result.rounds + 1}")
        write_policy(home, ocr=now.ocr)
        await _play(now, settings, operator, proxies, redis, s3)
        result.left = await operator.worked_off(redis, [now.tenant, now.poor], time.monotonic() + ROUND_SECONDS)
        result.rounds += 1
        if result.rounds == 1:
            await keep_ledger_history(settings)
        quiet = quiet + 1 if len(result.deaths) == deaths else 0
    return tenants


async def _play(
    now: Round, settings: Settings, operator: Operator, proxies: Proxies, redis: Redis, s3: S3Store
) -> None:
    await operator.provider_rules([*now.rules, LATENCY])
    await operator.limit(now.poor, FEW_TOKENS)
    media = await upload_all(s3, now.posts, 0)
    publishing = asyncio.create_task(publish_all(redis, settings, now.posts, media, Clock(0)))
    if now.service:
        proxies.proxies[now.service].inject("down")
        await asyncio.sleep(OUTAGE_SECONDS)
        proxies.heal()
    await publishing
    await _act(now, operator, redis)
    await operator.limit(now.poor, PLENTY_TOKENS)


async def _act(now: Round, operator: Operator, redis: Redis) -> None:
    if now.command == "deleted key":
        await redis.delete(f"budget:tenant:{now.poor}:*")
    elif now.command == "reset":
        await operator.command(now.poor, "reset")
    elif now.command == "pause and resume":
        await operator.command(now.tenant, "pause")
        await asyncio.sleep(PAUSE_SECONDS)
        await operator.command(now.tenant, "resume")
