"""One handler at a time per key, within this process. Across processes grants, call records and slots do it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from .ownership import while_ours


class SingleFlight:
    """Whoever waits for a picture finds the answer of the one before. Key: (tenant, sha256)."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._users: Counter[tuple[str, str]] = Counter()

    @asynccontextmanager
    async def flight(self, app: Any, event: Any, key: tuple[str, str]) -> AsyncIterator[None]:
        """Hold the key. Raises LeftUnacked when the wait has to end."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._users[key] += 1
        try:
            await while_ours(app, event, lock.acquire())
            try:
                yield
            finally:
                lock.release()
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]
