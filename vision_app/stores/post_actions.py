"""What operators did with posts, in Postgres: a replay may cost tokens again. Raises asyncpg's errors unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .posts import Row

_RECORD = """
INSERT INTO post_actions (tenant_id, post_id, action, forced, tokens_at_most, destination, operator, reason)
VALUES ($1, $2, 'replayed', $3, $4, $5, $6, $7)"""
_OF_POST = """
SELECT forced, tokens_at_most, destination, operator, reason, at FROM post_actions
WHERE tenant_id = $1 AND post_id = $2 ORDER BY id DESC LIMIT $3"""


@dataclass(frozen=True)
class PostReplay:
    """A replay. `destination`: where its record is; `tokens_at_most`: what the operator was told."""

    tenant_id: str
    post_id: str
    forced: bool
    tokens_at_most: int
    destination: str
    operator: str
    reason: str | None


class PostReplays:
    """Records replays of posts, and lists those of a post."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def record(self, one: PostReplay) -> None:
        what = (one.tenant_id, one.post_id, one.forced, one.tokens_at_most)
        await self._pool.execute(_RECORD, *what, one.destination, one.operator, one.reason)

    async def of_post(self, tenant_id: str, post_id: str, limit: int = 10) -> list[Row]:
        """The last replays of a post, the newest first: forced, tokens_at_most, destination, operator, reason, at."""
        return [dict(row) for row in await self._pool.fetch(_OF_POST, tenant_id, post_id, limit)]
