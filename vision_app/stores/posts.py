"""What the web pages, the commands and the budget's loader read from Postgres, and the operators' log they write.

Results are written by `postgres.py` alone. Every method raises asyncpg's errors as they are.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

import orjson

Action = Literal["reset", "set_limit", "pause", "resume"]
Row = dict[str, Any]

_JSON_COLUMNS = frozenset(
    {
        "data",
        "metadata",
        "vision_labels_agg",
        "vision_classification",
        "vision_context",
        "s3_vision_keys",
        "s3_media_keys",
        "s3_crawl_keys",
    }
)

_GET = """
SELECT * FROM post_enrichment WHERE post_id = $1 AND kind = 'vision' AND ($2::text IS NULL OR tenant_id = $2)
ORDER BY tenant_id"""

_STUCK = """
SELECT tenant_id, post_id, trace_id, status, in_work_since, data FROM post_enrichment
WHERE in_work_since <= $1 AND ($2::text IS NULL OR tenant_id = $2) ORDER BY in_work_since LIMIT $3"""

# a row may hold media answered on several days; updated_at only narrows the rows that have to be opened
_SPENT = """
SELECT coalesce(sum((medium ->> 'tokens_billed')::numeric), 0)::bigint
FROM post_enrichment AS pe, jsonb_array_elements(pe.data -> 'media') AS medium
WHERE pe.tenant_id = $1 AND pe.kind = 'vision' AND pe.updated_at >= $2
  AND (medium ->> 'tokens_billed')::numeric > 0
  AND coalesce((medium ->> 'analyzed_at')::timestamptz, pe.updated_at) >= $2
  AND coalesce((medium ->> 'analyzed_at')::timestamptz, pe.updated_at) < $3"""


class PostsReader:
    """Reads through a pool of `postgres.create_pool`."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def get(self, post_id: str, tenant_id: str | None = None) -> list[Row]:
        """The vision rows of a post, with JSON columns decoded: of one tenant, or of all that have such a post."""
        return [_decoded(row) for row in await self._pool.fetch(_GET, post_id, tenant_id)]

    async def stuck(self, before: datetime, tenant_id: str | None = None, limit: int = 100) -> list[Row]:
        """Posts in work since before a time, the oldest first."""
        return [_decoded(row) for row in await self._pool.fetch(_STUCK, before, tenant_id, limit)]

    async def spent_today(self, tenant_id: str, day: date | str) -> int:
        """Tokens charged to a tenant on a UTC day, since the last reset of that day if there was one."""
        day = date.fromisoformat(day) if isinstance(day, str) else day
        start = datetime.combine(day, time.min, UTC)
        end = start + timedelta(days=1)
        reset = await self.last_reset(tenant_id)
        since = max(start, reset) if reset and reset < end else start
        return int(await self._pool.fetchval(_SPENT, tenant_id, since, end))

    async def last_limit(self, tenant_id: str) -> int | None:
        """The daily limit an operator set last; None if none was set or it was set back to the default."""
        value = await self._last(tenant_id, "set_limit", "value")
        return None if value is None else int(value)

    async def last_reset(self, tenant_id: str) -> datetime | None:
        """When an operator last set the tenant's spending to zero."""
        at: datetime | None = await self._last(tenant_id, "reset", "at")
        return at

    async def paused(self, tenant_id: str) -> bool:
        """Whether the last of an operator's pauses and resumes was a pause."""
        query = """SELECT action FROM budget_actions WHERE tenant_id = $1 AND action IN ('pause', 'resume')
                   ORDER BY id DESC LIMIT 1"""
        return bool(await self._pool.fetchval(query, tenant_id) == "pause")

    async def record_action(self, tenant_id: str, action: Action, operator: str, value: int | None = None) -> int:
        """Note what an operator did to a tenant's budget. Returns the entry's number."""
        query = "INSERT INTO budget_actions (tenant_id, action, operator, value) VALUES ($1, $2, $3, $4) RETURNING id"
        return int(await self._pool.fetchval(query, tenant_id, action, operator, value))

    async def _last(self, tenant_id: str, action: Action, column: Literal["value", "at"]) -> Any:
        query = f"SELECT {column} FROM budget_actions WHERE tenant_id = $1 AND action = $2 ORDER BY id DESC LIMIT 1"  # noqa: S608 - a literal
        return await self._pool.fetchval(query, tenant_id, action)


def _decoded(row: Any) -> Row:
    return {
        name: orjson.loads(value) if name in _JSON_COLUMNS and value is not None else value
        for name, value in row.items()
    }
