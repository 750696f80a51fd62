"""Gives the pages and the budget's loader access to Postgres, for reading and for the operators' log.

Connects at the first use, and again after an outage. While a page waits for a query, `pulse.py` looks whether Postgres
still answers; if not, the page gets its 503 within seconds, and the connections that lead nowhere are given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import structlog

from vision_app.settings import Settings
from vision_app.stores.audits import Audits
from vision_app.stores.base import SinkUnavailable
from vision_app.stores.postgres import close_pool, create_pool
from vision_app.stores.posts import PostsReader, Row
from vision_app.telemetry import metrics

from .errors import ApiError
from .pulse import PostgresPulse

log = structlog.get_logger(__name__)

AWAY = (SinkUnavailable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
"""Errors of a call if Postgres does not answer or answers wrongly."""


def is_callers(fault: Exception) -> bool:
    """Whether the driver cannot send a value of the query. That is the caller's fault and no outage."""
    return isinstance(fault, asyncpg.DataError) and fault.severity is None  # Postgres' own errors have one


def only_row(rows: Sequence[Row], what: str) -> Row | None:
    """The row of what a caller asked for; None if there is none. Raises ApiError 409 if several tenants have one."""
    if len(rows) > 1:
        raise ApiError(409, "ambiguous", f"several tenants have {what}; add ?tenant_id=")
    return rows[0] if rows else None


class Readers:
    """Hands out readers. `posts` and `audits` raise SinkUnavailable without a connection.

    A reader raises asyncpg's errors.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool: Any = None
        self._connecting = asyncio.Lock()
        self.pulse = PostgresPulse(settings)

    async def open(self) -> None:
        """Nothing to prepare: Postgres may be away when the worker starts."""

    async def close(self) -> None:
        await self.pulse.close()
        if self._pool is not None:
            await close_pool(self._pool)
            self._pool = None

    async def posts(self) -> PostsReader:
        return PostsReader(await self._connected())

    async def audits(self) -> Audits:
        return Audits(await self._connected())

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._pool is None:
                self._pool = await create_pool(self._settings, application="vision-web")
        return self._pool

    def _give_up(self) -> None:
        """Cut the connections. Their queries fail at once; otherwise they would wait until Postgres is back."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    async def budget_of(self, tenant_id: str, day: str) -> tuple[int, int | None, bool]:
        """For the budget's loader: tokens spent on a UTC day, the limit set last, whether the tenant is paused."""
        reader = await self.posts()
        return (
            await reader.spent_today(tenant_id, day),
            await reader.last_limit(tenant_id),
            await reader.paused(tenant_id),
        )

    async def unfinished(self, tenant_id: str, before_ms: int) -> list[str]:
        """Posts of the tenant that are deferred, or in work since before a time."""
        return await (await self.posts()).unfinished(tenant_id, datetime.fromtimestamp(before_ms / 1000, UTC))

    async def tenants_with_unfinished(self, before_ms: int) -> list[str]:
        """Tenants that have such posts."""
        return await (await self.posts()).tenants_with_unfinished(datetime.fromtimestamp(before_ms / 1000, UTC))

    async def record_reset(self, tenant_id: str, operator: str) -> None:
        """Record that an operator reset a tenant's spending to zero."""
        await (await self.posts()).record_action(tenant_id, "reset", operator)

    @asynccontextmanager
    async def for_page(self) -> AsyncIterator[PostsReader]:
        """A reader for a page: while Postgres is away, the page answers 503; for a value it cannot take, 422."""
        async with self.pool_for_page() as pool:
            yield PostsReader(pool)

    @asynccontextmanager
    async def audits_for_page(self) -> AsyncIterator[Audits]:
        """The store of accounts for a page, with the same answers."""
        async with self.pool_for_page() as pool:
            yield Audits(pool)

    @asynccontextmanager
    async def pool_for_page(self) -> AsyncIterator[Any]:
        """The pool, for other readers of a page, with the same answers."""
        try:
            async with self.pulse.watched(self._give_up):
                yield await self._connected()
        except AWAY as fault:
            if is_callers(fault):
                log.warning("postgres_value_refused", error=repr(fault))
                raise ApiError(
                    422, "invalid_request", "a value is outside of what can be stored; correct it"
                ) from fault
            metrics.RETRIES.labels(stage="db").inc()
            log.error("postgres_read_failed", error=repr(fault))
            raise ApiError(503, "store_unavailable", "Postgres does not answer; see `vision doctor`") from fault
