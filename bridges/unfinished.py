"""Limits how many unfinished posts of a tenant are relayed. Further ones would only wait elsewhere.

Once the worker is busy, relaying more posts does not end them sooner. Held back here, they take no processor time
from others and do not overflow a queue.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from vision_app.stores.redis_announcer import emitted_key

LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class UnfinishedLimits:
    """Unfinished posts: `max_unfinished` in all, in equal parts for the tenants that posted lately.

    But `min_per_tenant` for each, and `max_per_tenant_in_outage` for each while a service that posts need is away: then
    they do not wait for the processor.
    `patience_seconds`: a post that takes longer waits for its budget or the end of a pause, or never ends. It is no
    longer counted.
    """

    max_unfinished: int = 24
    min_per_tenant: int = 2
    max_per_tenant_in_outage: int = 500
    patience_seconds: float = 30.0


class Unfinished:
    """Posts that this worker relayed and that are not announced yet, by tenant. Redis knows what any worker announced.

    `service_is_away` says whether a service is away that posts need to be announced. `limits` may be replaced
    at any time.
    """

    def __init__(self, redis: Any, service_is_away: Callable[[], bool], limits: UnfinishedLimits) -> None:
        self._redis, self._service_is_away, self.limits = redis, service_is_away, limits
        self._posts: dict[str, dict[str, float]] = defaultdict(dict)  # since when
        self._refreshed_at = 0.0
        self._waits_for_a_service = False

    def add(self, tenant_id: str, post_id: str) -> None:
        self._posts[tenant_id][post_id] = time.monotonic()

    def clear(self) -> None:
        self._posts.clear()

    def has_room(self, tenant_id: str) -> bool:
        """Whether one more post of the tenant may be relayed."""
        own = self._posts.get(tenant_id, {})
        tenants = len(self._posts) + (not own)
        fair = max(self.limits.min_per_tenant, self.limits.max_unfinished // tenants)
        most = self.limits.max_per_tenant_in_outage if self._waits_for_a_service else fair
        return len(own) < most

    async def refresh(self) -> None:
        """Update the counts: forget posts that were announced or are too old. Raises RedisError."""
        now = time.monotonic()
        if now - self._refreshed_at < LOOK_SECONDS:
            return
        self._refreshed_at, too_old = now, now - self.limits.patience_seconds
        self._waits_for_a_service = self._service_is_away()
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
