"""How far ahead of its own posts a tenant may get: what is relayed beyond that would only wait somewhere else.

More posts on their way than keep the worker busy end no sooner. Held back here they cost no processor time that others
need, and fill no queue that overflows.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from vision_app.stores.redis_announcer import emitted_key

TOGETHER, AT_LEAST, HELD_UP = 24, 2, 500
"""Posts on their way: so many together, in equal parts for the tenants that have posted lately, but two for each; and
many of each while a service is away that they wait for, since it is not for the processor then."""

PATIENCE_SECONDS = 30.0
"""A post that takes longer waits for something else than its turn (its budget, a paused tenant), or never ends."""

LOOK_SECONDS = 0.05


class Unfinished:
    """Posts relayed from here and not announced yet, by tenant. Redis knows what was announced, by whichever worker.

    `held_up` says whether a service is away that posts need to be announced.
    """

    def __init__(self, redis: Any, held_up: Callable[[], bool]) -> None:
        self._redis, self._held_up = redis, held_up
        self._posts: dict[str, dict[str, float]] = defaultdict(dict)  # since when
        self._looked_at = 0.0
        self._waits_for_a_service = False

    def add(self, tenant_id: str, post_id: str) -> None:
        self._posts[tenant_id][post_id] = time.monotonic()

    def clear(self) -> None:
        self._posts.clear()

    def has_room(self, tenant_id: str) -> bool:
        """Whether one more post of the tenant may be relayed."""
        own = self._posts.get(tenant_id, {})
        tenants = len(self._posts) + (not own)
        most = HELD_UP if self._waits_for_a_service else max(AT_LEAST, TOGETHER // tenants)
        return len(own) < most

    async def look(self) -> None:
        """See how things are, and forget what has ended or is too old. Raises RedisError."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at, too_old = now, now - PATIENCE_SECONDS
        self._waits_for_a_service = self._held_up()
        ended = await self._announced([tenant_id for tenant_id in self._posts if not self.has_room(tenant_id)])
        for tenant_id, posts in list(self._posts.items()):
            left = {
                post_id: since
                for post_id, since in posts.items()
                if since > too_old and (tenant_id, post_id) not in ended
            }
            if left:
                self._posts[tenant_id] = left
            else:
                del self._posts[tenant_id]

    async def _announced(self, tenants: Iterable[str]) -> set[tuple[str, str]]:
        asked = [(tenant_id, post_id) for tenant_id in tenants for post_id in self._posts[tenant_id]]
        found = await self._redis.mget([emitted_key(*post) for post in asked]) if asked else []
        return {post for post, emission in zip(asked, found, strict=True) if emission is not None}
