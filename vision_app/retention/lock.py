"""The lock for one worker at a time: a session's advisory lock in Postgres, held by the connection that does the work.

It is not a lease in Redis: a lease must be renewed during a long listing and outlives a killed worker. This lock ends
with its connection at once. And without Postgres no clean-up is possible, because it is not known what is needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from vision_app.clients.postgres import CONNECT_SECONDS, Way, postgres_connection
from vision_app.settings import Settings
from vision_app.stores.postgres import STORE_FAULTS, unavailable
from vision_app.texts import say

STORAGE_LOCK = 0x73746F72616765  # "storage"
STATEMENT_TIMEOUT_SECONDS = 600
WAIT_SECONDS = 5.0
POLL_SECONDS = 0.05


class StorageBusy(Exception):
    """Another worker or command is counting or cleaning up now. Wait until it has ended."""


@asynccontextmanager
async def exclusively(settings: Settings, wait_seconds: float = WAIT_SECONDS) -> AsyncIterator[Any]:
    """A connection that holds the lock. Raises StorageBusy after a wait, and SinkUnavailable when Postgres is away."""
    way = Way.SESSION if settings.database_pgbouncer else Way.WORKER
    try:
        connection = await postgres_connection(
            settings, application="vision-storage", way=way, command_timeout=STATEMENT_TIMEOUT_SECONDS
        )
    except STORE_FAULTS as fault:
        raise unavailable(fault, way) from fault
    try:
        await _lock(connection, wait_seconds)
        yield connection
        await connection.close(timeout=CONNECT_SECONDS)  # waits until Postgres has released the lock
    finally:
        connection.terminate()  # releases lock and temporary tables in any case; does nothing if closed


async def _lock(connection: Any, wait_seconds: float) -> None:
    """Take the lock. Waits a little, because a session that has just ended may still hold it."""
    deadline = time.monotonic() + wait_seconds
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", STORAGE_LOCK):
        if time.monotonic() >= deadline:
            raise StorageBusy(say("a count or clean-up is under way; ask again when it has ended"))
        await asyncio.sleep(POLL_SECONDS)
