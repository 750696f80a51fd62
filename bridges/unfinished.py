"""How far ahead of its own posts a tenant may get: what is relayed beyond that would only wait somewhere else.

A tenant gets three calls at a time (`domain/budget.py`), so more posts on their way end no sooner. Held back here they
cost no processor time that others need, and fill no queue that overflows.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

from vision_app.stores.redis_announcer import emitted_key

ALONE, AMONG_OTHERS = 32, 3
"""Posts of one tenant on their way: some seconds of calls while nobody else posts, as many as get a call at a time
while others do."""

PATIENCE_SECONDS = 30.0
"""A post that takes longer waits for something else than its turn (an outage, a new day's budget), or never ends."""

LOOK_SECONDS = 0.05


class Unfinished:
    """Posts relayed from here and not announced yet, by tenant. Redis knows what was announced, by whichever worker."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._posts: dict[str, dict[str, float]] = defaultdict(dict)  # since when, the oldest first
        self._looked_at = 0.0

    def add(self, tenant_id: str, post_id: str) -> None:
        posts = self._posts[tenant_id]
        posts.pop(post_id, None)
        posts[post_id] = time.monotonic()

    def clear(self) -> None:
        self._posts.clear()

    def has_room(self, tenant_id: str) -> bool:
        """Whether one more post of the tenant may be relayed."""
        most = ALONE if not self._posts.keys() - {tenant_id} else AMONG_OTHERS
        return len(self._posts.get(tenant_id, ())) < most

    async def look(self) -> None:
        """Forget what has ended or is too old. Raises RedisError."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at, too_old = now, now - PATIENCE_SECONDS
        for tenant_id, posts in list(self._posts.items()):
            ended = set() if self.has_room(tenant_id) else await self._announced(tenant_id, list(posts))
            left = {post: since for post, since in posts.items() if post not in ended and since > too_old}
            if left:
                self._posts[tenant_id] = left
            else:
                del self._posts[tenant_id]

    async def _announced(self, tenant_id: str, posts: list[str]) -> set[str]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for post_id in posts:
                pipe.exists(emitted_key(tenant_id, post_id))
            found = await pipe.execute()
        return {post_id for post_id, announced in zip(posts, found, strict=True) if announced}
