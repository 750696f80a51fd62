"""Shows the tenants' budgets in Redis, with keys that an operator deletes to reset a budget.

Per tenant `budget:tenant:{tenant}:{day}` holds the tokens spent on a UTC day. Beside it is a key of literally
`budget:tenant:{tenant}:*`, the sentinel. DEL takes no patterns, so `redis-cli DEL budget:tenant:{tenant}:*` deletes
exactly this key, which requests a reset. The set `budget:sentinel` names the tenants that have a sentinel. If a tenant
is in the set and its sentinel is missing, somebody deleted it. If the set is missing too, Redis lost its data and
nobody requested a reset.

It is a projection. It decides only whether posts are sampled and, when a ledger is lost, how much was spent at least.
All methods except `spent_today` and `last_shown` raise Redis' errors.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from redis.exceptions import RedisError

from vision_app.clients.redis import redis_client
from vision_app.settings import Settings
from vision_app.telemetry import metrics

log = structlog.get_logger(__name__)

SENTINELS = "budget:sentinel"
TTL_SECONDS = 48 * 3600
TIMEOUT_SECONDS = 2
CACHE_SECONDS = 2.0
AWAY_SECONDS = 5.0
CACHED_TENANTS = 1000


def spent_key(tenant_id: str, day: str) -> str:
    return f"budget:tenant:{tenant_id}:{day}"


def sentinel_key(tenant_id: str) -> str:
    return f"budget:tenant:{tenant_id}:*"


@dataclass(frozen=True)
class Spent:
    """Tokens spent on a UTC day."""

    day: str
    tokens: int


@dataclass(frozen=True)
class Sentinels:
    """Of the tenants asked about: those without a sentinel so far, and those whose sentinel was deleted."""

    new: Collection[str]
    deleted: Collection[str]


class BudgetMirror:
    """A connection of its own, with short timeouts."""

    def __init__(self, settings: Settings, cache_seconds: float = CACHE_SECONDS) -> None:
        self._redis = redis_client(settings, timeout=TIMEOUT_SECONDS)
        self._cache_seconds = cache_seconds
        self._cache: dict[str, tuple[float, int | None]] = {}
        self._away_until = 0.0

    async def open(self) -> None:
        """Nothing to prepare: Redis may be away when the worker starts."""

    async def close(self) -> None:
        await self._redis.aclose()

    async def sentinels(self, tenants: Iterable[str]) -> Sentinels:
        """Check these tenants' sentinels, all at one moment."""
        asked = list(tenants)
        pipeline: Any = self._redis.pipeline(transaction=True)
        for tenant in asked:
            pipeline.sismember(SENTINELS, tenant)
            pipeline.exists(sentinel_key(tenant))
        answers = await pipeline.execute()
        known = dict(zip(asked, answers[::2], strict=True))
        there = dict(zip(asked, answers[1::2], strict=True))
        return Sentinels(
            new={tenant for tenant in asked if not known[tenant]},
            deleted={tenant for tenant in asked if known[tenant] and not there[tenant]},
        )

    async def watch(self, tenants: Collection[str]) -> None:
        """Write these tenants' sentinels."""
        if not tenants:
            return
        pipeline: Any = self._redis.pipeline(transaction=True)
        for tenant in tenants:
            pipeline.set(sentinel_key(tenant), "delete this key to reset the tenant's budget of today")
            pipeline.sadd(SENTINELS, tenant)
        await pipeline.execute()

    async def show(self, spent: Mapping[str, Spent]) -> None:
        """Write what these tenants have spent."""
        if not spent:
            return
        pipeline: Any = self._redis.pipeline(transaction=False)
        for tenant, shown in spent.items():
            pipeline.set(spent_key(tenant, shown.day), shown.tokens, ex=TTL_SECONDS)
        await pipeline.execute()

    async def missing(self, spent: Mapping[str, Spent]) -> set[str]:
        """Those of these tenants whose spending of that day is not in Redis, or no longer."""
        if not spent:
            return set()
        pipeline: Any = self._redis.pipeline(transaction=False)
        for tenant, shown in spent.items():
            pipeline.exists(spent_key(tenant, shown.day))
        there = await pipeline.execute()
        return {tenant for tenant, exists in zip(spent, there, strict=True) if not exists}

    async def spent_today(self, tenant_id: str) -> int | None:
        """Tokens the tenant spent today, a few seconds old at most; None if unknown. Never raises."""
        now = time.monotonic()
        until, tokens = self._cache.get(tenant_id, (0.0, None))
        if now < until:
            return tokens
        if now < self._away_until:
            return None
        try:
            tokens = await self._read(tenant_id, datetime.now(UTC).date().isoformat())
        except (RedisError, OSError, ValueError) as fault:
            metrics.RETRIES.labels(stage="redis").inc()
            log.warning("spent_tokens_unreadable", error=repr(fault))
            self._away_until = now + AWAY_SECONDS
            return None
        if len(self._cache) >= CACHED_TENANTS:
            self._cache.clear()
        self._cache[tenant_id] = (now + self._cache_seconds, tokens)
        return tokens

    async def last_shown(self, tenant_id: str, day: str) -> int:
        """Tokens spent on that UTC day as last shown; 0 if unknown. Never raises."""
        try:
            return await self._read(tenant_id, day) or 0
        except (RedisError, OSError, ValueError) as fault:
            metrics.RETRIES.labels(stage="redis").inc()
            log.warning("ledger_opened_without_redis", tenant_id=tenant_id, error=repr(fault))
            return 0

    async def _read(self, tenant_id: str, day: str) -> int | None:
        value = await self._redis.get(spent_key(tenant_id, day))
        return None if value is None else int(value)
