"""The crash suite: a worker dies once at every await that it passes, and an account is taken of its work.

One worker, started again after each death with the same file of points (`vision_app.lab.crash_points`), while rounds of
posts go through it; in some of them a second worker without crash points joins. The run ends when further rounds lead
to no new death.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Collection, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from vision_app.audit import take_account
from vision_app.clients.redis import redis_client
from vision_app.lab.crash_points import RAISING, VARIABLE, points
from vision_app.lab.faults import proxied
from vision_app.settings import Settings, load_settings
from vision_app.stores.s3 import S3Store

from .crashing_worker import CrashingWorker, CrashResult
from .history import keep_ledger_history
from .round_player import PLENTY_TOKENS, RoundPlayer, RoundServices
from .rounds import nth
from .run import Tell, worker_environment, write_policy
from .workers import WorkerProcess

COMMAND = (sys.executable, "-m", "vision_app.lab.crash_worker", "--quiet", "worker", "--loglevel", "info")
QUIET_ROUNDS = 12  # the run ends after this many rounds without a death: then each kind of round came once more
MAX_ROUNDS = 60

Result = TypeVar("Result")


async def crash_everywhere(
    home: Path, run: str, variables: Mapping[str, str], tell: Tell, exempt: Collection[str] = ()
) -> CrashResult:
    """Let a worker die at every point except those in `exempt`. Raises the error of a store that is away."""
    settings = load_settings(**{name.lower(): value for name, value in variables.items()})
    result, started_ms = CrashResult(), int(time.time() * 1000)
    passed, raising = home / "crash-points", home / "raising-points"
    passed.write_text("".join(f"{point}\n" for point in exempt), "utf-8")
    async with AsyncExitStack() as stack:
        proxies = await stack.enter_async_context(proxied(variables))
        environment = {**variables, **proxies.env, **worker_environment(home)}
        environment |= {"VISION_MAX_DAILY_TOKENS": str(PLENTY_TOKENS), "VISION_OCR_FALLBACK_ENABLED": "true"}
        environment["VISION_PROVIDER_STREAMS"] = "2"  # so few that calls wait for a slot
        taken_ports, crash_points = set[int](), {VARIABLE: f"@{passed}", RAISING: f"@{raising}"}
        process = WorkerProcess(1, {**environment, **crash_points}, home / "logs", taken_ports, COMMAND)
        redis = await stack.enter_async_context(redis_client(settings))
        s3 = S3Store(settings)
        await s3.open()
        stack.push_async_callback(s3.close)
        stack.push_async_callback(process.kill)
        crashing = CrashingWorker(process, passed, raising, result, tell)
        second = WorkerProcess(2, environment, home / "logs", taken_ports)
        player = RoundPlayer(RoundServices(variables, settings, proxies, redis, s3), crashing, second)
        tenants = await _play_while_restarting(
            crashing.keep_running(), play_rounds(home, run, settings, crashing, player)
        )
        result.account = await take_account(settings, since_ms=started_ms, tenants=tenants)
    result.never = sorted(set(points()) - set(result.deaths) - set(exempt))
    return result


async def _play_while_restarting(restarting: Coroutine[Any, Any, None], playing: Coroutine[Any, Any, Result]) -> Result:
    """Play while `restarting` restarts the worker; raises the error that ends either."""
    tasks = asyncio.create_task(restarting), asyncio.create_task(playing)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
        return await tasks[1]
    finally:
        for task in tasks:
            task.cancel()


async def play_rounds(
    home: Path, run: str, settings: Settings, worker: CrashingWorker, player: RoundPlayer
) -> list[str]:
    """Play rounds until they lead to no new death. Returns the tenants of all rounds."""
    tenants: list[str] = []
    result, quiet = worker.result, 0
    while quiet < QUIET_ROUNDS and result.rounds < MAX_ROUNDS and not result.left:
        now, deaths = nth(run, result.rounds), len(result.deaths)
        tenants += [now.tenant, now.poor]
        worker.tell(f"round {result.rounds + 1}: {now.service or 'no service'} fails, {now.event or 'nothing else'}")
        worker.without_kafka = now.service == "kafka"
        write_policy(home, ocr=now.ocr, sampling=now.event == "sampling")
        async with player.second_worker(now):
            await player.play(now)
            result.left = await player.wait_until_done(now)
        result.rounds += 1
        if result.rounds == 1:
            await keep_ledger_history(settings)
        quiet = quiet + 1 if len(result.deaths) == deaths else 0
    return tenants
