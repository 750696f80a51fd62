"""What the web pages and the budget's loader ask Postgres for. Connects when first asked, and again after an outage."""

from __future__ import annotations

import asyncio
from typing import Any

from vision_app.settings import Settings
from vision_app.stores.postgres import create_pool
from vision_app.stores.posts import PostsReader, Row


class Readers:
    """Reads only; every method raises what asyncpg raises, or SinkUnavailable while there is no connection."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool: Any = None
        self._connecting = asyncio.Lock()

    async def open(self) -> None:
        """Nothing to prepare: Postgres may be away when the worker starts."""

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()

    async def posts(self) -> PostsReader:
        async with self._connecting:
            if self._pool is None:
                self._pool = await create_pool(self._settings, application="vision-web")
        return PostsReader(self._pool)

    async def rows_of(self, post_id: str, tenant_id: str | None) -> list[Row]:
        return await (await self.posts()).get(post_id, tenant_id)

    async def spent_and_limit(self, tenant_id: str, day: str) -> tuple[int, int | None]:
        """What the loader of the budget needs: tokens spent on a UTC day, and the limit an operator set last."""
        reader = await self.posts()
        return await reader.spent_today(tenant_id, day), await reader.last_limit(tenant_id)
