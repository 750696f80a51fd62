"""One soak run: starts its own workers, plays the plan, waits for the backlog, takes the account."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from redis.asyncio import Redis

from vision_app.audit import Account, take_account
from vision_app.clients.redis import redis_client
from vision_app.lab.faults import FAULTS, FaultProxy, proxied
from vision_app.settings import Settings, load_settings
from vision_app.stack.files import write_atomically
from vision_app.stack.kafka import WORKER_SESSION_SECONDS
from vision_app.stores.policy_file import default_policy_path
from vision_app.stores.s3 import S3Store

from .brokers import Brokers, longest_silences
from .chaos import PROVIDER_RULES, SLOW_ANSWERS, Chaos
from .history import keep_ledger_history
from .operator import Operator
from .plan import Disturbance, SoakPlan, WorkerSignal, draw, draw_disturbances
from .traffic import Clock, publish_all, upload_all
from .workers import WorkerProcess

SERVICES = ("redis", "kafka", "postgres", "s3", "neo4j", "gigachat")
RICH_TOKENS, POOR_TOKENS = 50_000_000, 60_000  # a day; about 25 pictures for the poor tenant
SESSION_SECONDS = 6

Tell = Callable[[str], None]


@dataclass(frozen=True)
class SoakOptions:
    """What to do. `home` is an empty folder for this run."""

    home: Path
    seed: int
    posts: int
    minutes: float
    workers: int
    kills: int
    terminations: int
    freezes: int
    outage_seconds: float
    calm_provider: bool
    patience_minutes: float
    brokers: int = 1
    disturbances: Mapping[Disturbance, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SoakResult:
    """How a run ended. `left`: work that was unfinished at the time limit."""

    wish: SoakOptions
    plan: SoakPlan
    entries: int
    chaos: Chaos
    left: str
    account: Account
    forced: int = 0  # workers told to end that had to be killed
    seconds: Mapping[str, float] = field(default_factory=dict)
    disturbances: Sequence[Mapping[str, Any]] = ()  # each with the longest silence after it

    @property
    def ok(self) -> bool:
        return not (self.left or self.forced or self.account.discrepancies)


async def soak(
    wish: SoakOptions, variables: Mapping[str, str], tell: Tell, brokers: Brokers | None = None
) -> SoakResult:
    """Run against the services in `variables`. `brokers`: those of a cluster, which are disturbed, too.

    Raises WorkerLost, BrokerLost, and the errors of stores that are away.
    """
    settings = load_settings(**{name.lower(): value for name, value in variables.items()})
    plan = draw(
        wish.seed,
        f"{wish.seed}-{int(time.time()) % 100_000}",
        posts=wish.posts,
        workers=wish.workers,
        signals=_planned_signals(wish),
        services=_services(wish),
        faults=FAULTS,
        outage_seconds=wish.outage_seconds,
    )
    if brokers:
        plan = replace(plan, disturbances=draw_disturbances(wish.seed, wish.brokers, wish.disturbances))
    started_ms, started = int(time.time() * 1000), time.monotonic()
    async with AsyncExitStack() as stack:
        proxies = await stack.enter_async_context(proxied(variables))
        workers = _workers(wish, {**variables, **proxies.env, **worker_environment(wish.home, wish.brokers)})
        redis = await stack.enter_async_context(redis_client(settings))
        s3 = S3Store(settings)
        await s3.open()
        stack.push_async_callback(s3.close)
        stack.push_async_callback(_end_all, workers)
        operator = Operator(settings, [worker.url for worker in workers])
        tell(f"uploading the pictures of {len(plan.posts)} posts, starting {wish.workers} workers")
        for worker in workers:
            await worker.start()
        media = await upload_all(s3, plan.posts, wish.seed)
        await asyncio.gather(*(worker.ready() for worker in workers))
        await keep_ledger_history(settings)
        await operator.limit(plan.poor, POOR_TOKENS)
        await operator.provider_rules([SLOW_ANSWERS] if wish.calm_provider else PROVIDER_RULES)
        chaos = Chaos(brokers=brokers)
        async with _watched(chaos, workers):
            entries = await _play(wish, plan, chaos, redis, settings, media, workers, proxies.proxies, tell)
            played = time.monotonic()
            tell(f"all sent after {played - started:.0f} s; the poor tenant gets money, the backlog is worked off")
            await operator.provider_rules([SLOW_ANSWERS])
            await operator.limit(plan.poor, RICH_TOKENS)
            left = await operator.worked_off(redis, plan.tenants, time.monotonic() + wish.patience_minutes * 60)
            idle = time.monotonic()
            tell(f"worked off {idle - played:.0f} s after the last post; taking the account")
            account = await take_account(settings, since_ms=started_ms)
            struck = await _with_silences(brokers, redis, settings, started_ms)
        for worker in workers:
            await worker.terminate()
    forced = sum(worker.forced for worker in workers)
    seconds = {"playing": played - started, "backlog": idle - played}
    return SoakResult(wish, plan, entries, chaos, left, account, forced, seconds, struck)


def _services(wish: SoakOptions) -> tuple[str, ...]:
    """The services that fail once. The brokers of a cluster are disturbed in other ways."""
    if not wish.outage_seconds:
        return ()
    return tuple(name for name in SERVICES if wish.brokers == 1 or name != "kafka")


async def _with_silences(
    brokers: Brokers | None, redis: Redis, settings: Settings, since_ms: int
) -> list[dict[str, Any]]:
    disturbances = brokers.disturbances if brokers else []
    silences = await longest_silences(redis, settings, disturbances, since_ms)
    return [{**one, "silence": silence} for one, silence in zip(disturbances, silences, strict=True)]


def _planned_signals(wish: SoakOptions) -> dict[WorkerSignal, int]:
    return {"kill": wish.kills, "terminate": wish.terminations, "freeze": wish.freezes}


async def _play(
    wish: SoakOptions,
    plan: SoakPlan,
    chaos: Chaos,
    redis: Redis,
    settings: Settings,
    media: Mapping[Any, Any],
    workers: list[WorkerProcess],
    proxies: Mapping[str, FaultProxy],
    tell: Tell,
) -> int:
    """Run traffic, blows and outages in parallel. Returns the number of published entries."""
    clock = Clock(wish.minutes * 60)
    blows = len(plan.signals) + len(plan.disturbances)
    tell(f"{len(plan.posts)} posts, {blows} blows, {len(plan.outages)} outages in {wish.minutes:g} minutes")
    entries, *_ = await asyncio.gather(
        publish_all(redis, settings, plan.posts, media, clock),
        chaos.send_signals(plan.signals, workers, clock, _session_seconds(wish.brokers)),
        chaos.break_services(plan.outages, proxies, clock),
        chaos.disturb_brokers(plan.disturbances, clock),
    )
    return entries


@asynccontextmanager
async def _watched(chaos: Chaos, workers: list[WorkerProcess]) -> AsyncIterator[None]:
    watching = asyncio.create_task(chaos.watch(workers))
    try:
        yield
    finally:
        watching.cancel()


def _workers(wish: SoakOptions, environment: Mapping[str, str]) -> list[WorkerProcess]:
    taken: set[int] = set()
    return [WorkerProcess(number + 1, environment, wish.home / "logs", taken) for number in range(wish.workers)]


def write_policy(home: Path, *, ocr: bool, sampling: bool = False) -> Path:
    """Write the shipped policy so that all pictures are analyzed. `ocr`: by OCR if the budget is exhausted. `sampling`:
    only one picture per post for a tenant that has spent something today.
    """
    policy = yaml.safe_load(default_policy_path().read_text("utf-8"))
    threshold = 1 if sampling else RICH_TOKENS
    policy["budget_gates"] |= {"fallback_to_ocr_if_exhausted": ocr, "sampling_threshold_per_day": threshold}
    if sampling:
        policy["sampling"]["per_post_max_images"] = 1
    path = home / "vision_policy.yml"
    write_atomically(path, yaml.safe_dump(policy, allow_unicode=True))
    return path


def _session_seconds(brokers: int) -> int:
    """Short, so that dead workers are noticed soon; but with several brokers as long as `vision up` makes it."""
    return SESSION_SECONDS if brokers == 1 else WORKER_SESSION_SECONDS


def worker_environment(home: Path, brokers: int = 1) -> dict[str, str]:
    """No OCR, so that tasks without money wait; short timeouts for dead workers and services."""
    return {
        "VISION_POLICY_CONFIG_PATH": str(write_policy(home, ocr=False)),
        "VISION_MAX_DAILY_TOKENS": str(RICH_TOKENS),
        "VISION_OCR_FALLBACK_ENABLED": "false",
        "KAFKA_SESSION_TIMEOUT_SECONDS": str(_session_seconds(brokers)),
        "VISION_PEL_MIN_IDLE_MS": "10000",
        "GIGACHAT_CIRCUIT_BREAKER_RECOVERY_TIMEOUT": "5",
        "GIGACHAT_VISION_TIMEOUT": "20",
    }


async def _end_all(workers: list[WorkerProcess]) -> None:
    await asyncio.gather(*(worker.kill() for worker in workers))
