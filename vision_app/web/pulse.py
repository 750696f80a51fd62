"""Tells a slow query from a Postgres that does not answer, so that no page waits for a frozen one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg
import structlog

from vision_app.clients.postgres import postgres_connection
from vision_app.settings import Settings

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 2.0
"""A page waits so long before Postgres is looked at, and between two looks."""
LOOK_SECONDS = 4.0
"""Time for a look: connect and ask something trivial."""

SILENT = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError)
"""Errors of a look that mean that Postgres does not answer. Any other error is an answer."""


class PostgresPulse:
    """Looks whether Postgres answers while somebody waits for it: one look at a time, shared by all who wait."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._look: asyncio.Task[bool] | None = None

    @asynccontextmanager
    async def watched(self, give_up: Callable[[], None]) -> AsyncIterator[None]:
        """Let the work inside take its time while Postgres answers. If it does not: `give_up`, and TimeoutError."""
        async with asyncio.timeout(None) as limit:
            watch = asyncio.create_task(self._watch(limit, give_up))
            try:
                yield
            finally:
                watch.cancel()

    async def close(self) -> None:
        if self._look is not None:
            self._look.cancel()
            with suppress(asyncio.CancelledError):
                await self._look

    async def _watch(self, limit: asyncio.Timeout, give_up: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(PATIENCE_SECONDS)
            if not await self._answers():
                break
        log.warning("postgres_silent", waited_seconds=PATIENCE_SECONDS + LOOK_SECONDS)
        give_up()
        limit.reschedule(asyncio.get_running_loop().time())

    async def _answers(self) -> bool:
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._ask())
        return await asyncio.shield(self._look)

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                connection = await postgres_connection(self._settings, application="vision-web")
                try:
                    await connection.fetchval("SELECT 1")
                finally:
                    connection.terminate()
        except SILENT:
            return False
        except asyncpg.PostgresError:
            return True
        return True
