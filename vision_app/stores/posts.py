"""Reads Postgres for the web pages, the commands and the budget's loader, and writes the operators' log.

Only `postgres.py` writes results. Every method raises asyncpg's errors unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

import orjson

from .post_search import Place, PostFilter, search
from .rows import COLUMNS
from .statements import IS_DEFERRED

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

# without `vision_search`, which is made for searching only
_WHOLE = ", ".join((*COLUMNS, "created_at", "updated_at"))

# objects that a row names and that were deleted since; an object that was written again is not in the table
_EXPIRED = """
ARRAY(SELECT e.s3_key FROM expired_objects AS e WHERE e.expired_at IS NOT NULL
      AND e.s3_key IN (SELECT jsonb_array_elements_text(pe.s3_vision_keys || pe.s3_media_keys)) ORDER BY 1
) AS expired_keys"""

_GET = f"""
SELECT {_WHOLE}, {_EXPIRED} FROM post_enrichment AS pe
WHERE post_id = $1 AND kind = 'vision' AND ($2::text IS NULL OR tenant_id = $2) ORDER BY tenant_id"""  # noqa: S608 - made of constants only

_STUCK = """
SELECT tenant_id, post_id, trace_id, status, in_work_since, data FROM post_enrichment
WHERE in_work_since <= $1 AND ($2::text IS NULL OR tenant_id = $2) ORDER BY in_work_since LIMIT $3"""

_DEFERRED = f"""
SELECT tenant_id, post_id, trace_id, status, updated_at AS in_work_since FROM post_enrichment
WHERE {IS_DEFERRED} AND in_work_since IS NULL AND updated_at <= $1 AND ($2::text IS NULL OR tenant_id = $2)
ORDER BY updated_at LIMIT $3"""  # noqa: S608 - built from our own texts

_UNFINISHED = f"""
SELECT post_id FROM post_enrichment WHERE tenant_id = $1 AND (in_work_since <= $2 OR ({IS_DEFERRED}))
ORDER BY emission_time_ms, emission_offset"""  # noqa: S608 - built from our own texts

_UNFINISHED_TENANTS = f"""
SELECT tenant_id FROM post_enrichment WHERE in_work_since <= $1
UNION SELECT tenant_id FROM post_enrichment WHERE {IS_DEFERRED}"""  # noqa: S608 - built from our own texts

_MEME = """(coalesce(vision_is_meme, false) OR data @> '{"enrichments": [{"analysis": {"is_meme": true}}]}')"""

_ANALYZED = f"""
FROM post_enrichment AS pe WHERE kind = 'vision' AND vision_analyzed_at IS NOT NULL
  AND ($1::text IS NULL OR tenant_id = $1)
  AND ($2::text IS NULL OR coalesce(metadata ->> 'channel_id', data #>> '{{event,channel_id}}') = $2)
  AND ($3::boolean IS NULL OR {_MEME} = $3)
  AND ($4::text IS NULL OR vision_provider = $4)
  AND ($5::timestamptz IS NULL OR vision_analyzed_at > $5)"""
_COUNT = f"SELECT count(*) {_ANALYZED}"
_PAGE = (
    f"SELECT {_WHOLE}, {_EXPIRED} {_ANALYZED} ORDER BY vision_analyzed_at DESC, tenant_id, post_id OFFSET $6 LIMIT $7"
)

_MEDIUM = """
SELECT m.tenant_id, m.file_sha256 AS sha256, m.s3_key,
    m.mime AS mime_type, m.size_bytes,
    (SELECT expired_at FROM expired_objects AS e WHERE e.s3_key = m.s3_key) AS expired_at,
    seen.classification AS vision_classification, seen.is_meme, seen.description, seen.provider, seen.analyzed_at,
    ARRAY(SELECT post_id FROM post_media_map AS p WHERE (p.tenant_id, p.file_sha256) = (m.tenant_id, m.file_sha256)
          ORDER BY uploaded_at DESC, post_id LIMIT 100) AS posts
FROM media_objects AS m LEFT JOIN LATERAL (
    SELECT item #>> '{analysis,classification}' AS classification, (item #>> '{analysis,is_meme}')::boolean AS is_meme,
        item #>> '{analysis,description}' AS description, item ->> 'provider' AS provider,
        (medium ->> 'analyzed_at')::timestamptz AS analyzed_at
    FROM post_media_map AS p
    JOIN post_enrichment AS pe ON (pe.tenant_id, pe.post_id, pe.kind) = (p.tenant_id, p.post_id, 'vision')
    CROSS JOIN jsonb_path_query(pe.data, '$.enrichments[*]') AS item
    CROSS JOIN jsonb_path_query(pe.data, '$.media[*]') AS medium
    WHERE (p.tenant_id, p.file_sha256) = (m.tenant_id, m.file_sha256)
      AND item ->> 'sha256' = m.file_sha256 AND item ? 'analysis'
      AND medium ->> 'sha256' = m.file_sha256 AND medium ? 'analyzed_at'
    ORDER BY analyzed_at DESC LIMIT 1
) AS seen ON true
WHERE m.file_sha256 = $1 AND ($2::text IS NULL OR m.tenant_id = $2) ORDER BY m.tenant_id"""

_MEDIUM_OBJECT = """
SELECT m.tenant_id, m.file_sha256 AS sha256, m.s3_key, m.mime AS mime_type,
    (SELECT expired_at FROM expired_objects AS e WHERE e.s3_key = m.s3_key) AS expired_at
FROM media_objects AS m
WHERE m.file_sha256 = $1 AND ($2::text IS NULL OR m.tenant_id = $2) ORDER BY m.tenant_id LIMIT 2"""

_STATS = f"""
WITH analyzed AS (
    SELECT vision_provider AS provider, coalesce(vision_analysis_reason, '') = 'cache_hit' AS cached,
        coalesce(vision_tokens_used, 0) AS tokens, {_MEME} AS meme,
        coalesce(vision_classification ->> 'type', 'other') AS type
    FROM post_enrichment
    WHERE kind = 'vision' AND vision_analyzed_at IS NOT NULL AND ($1::text IS NULL OR tenant_id = $1)
), types AS (SELECT type, count(*) AS posts FROM analyzed GROUP BY type)
SELECT count(*) AS total_analyzed, count(*) FILTER (WHERE meme) AS memes_count,
    count(*) FILTER (WHERE provider = 'gigachat' AND NOT cached) AS gigachat,
    count(*) FILTER (WHERE provider = 'ocr_fallback' AND NOT cached) AS ocr,
    count(*) FILTER (WHERE cached) AS cached, least(coalesce(sum(tokens), 0), 9223372036854775807)::bigint AS tokens,
    coalesce((SELECT jsonb_object_agg(type, posts) FROM types), '{{}}') AS by_type
FROM analyzed"""  # noqa: S608 - built from our own texts

# a row may hold media answered on several days; updated_at only limits the rows to be read
_SPENT = """
SELECT least(coalesce(sum((medium ->> 'tokens_billed')::numeric), 0), 9223372036854775807)::bigint
FROM post_enrichment AS pe, jsonb_array_elements(pe.data -> 'media') AS medium
WHERE pe.tenant_id = $1 AND pe.kind = 'vision' AND pe.updated_at >= $2
  AND (medium ->> 'tokens_billed')::numeric > 0
  AND coalesce((medium ->> 'analyzed_at')::timestamptz, pe.updated_at) >= $2
  AND coalesce((medium ->> 'analyzed_at')::timestamptz, pe.updated_at) < $3"""


# one step of an index per tenant, however many posts it has
_TENANTS_AFTER = """
WITH RECURSIVE named AS (
    SELECT $1::text AS tenant_id, 0 AS step
    UNION ALL
    SELECT least(
        (SELECT tenant_id FROM post_enrichment AS p WHERE p.tenant_id > n.tenant_id ORDER BY tenant_id LIMIT 1),
        (SELECT tenant_id FROM budget_actions AS b WHERE b.tenant_id > n.tenant_id ORDER BY tenant_id LIMIT 1)
    ), step + 1 FROM named AS n WHERE step < $2 AND tenant_id IS NOT NULL
)
SELECT tenant_id FROM named WHERE step > 0 AND tenant_id IS NOT NULL ORDER BY step"""


@dataclass(frozen=True)
class Wanted:
    """Which analyzed posts to list; None: any. `has_meme`: whether any of a post's pictures is one."""

    tenant_id: str | None = None
    channel_id: str | None = None
    has_meme: bool | None = None
    provider: str | None = None
    analyzed_after: datetime | None = None


class PostsReader:
    """Reads through a pool of `postgres.create_pool`."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @property
    def pool(self) -> Any:
        return self._pool

    async def get(self, post_id: str, tenant_id: str | None = None) -> list[Row]:
        """The vision rows of a post, with JSON columns decoded: of one tenant, or of all tenants with such a post."""
        return [_decoded(row) for row in await self._pool.fetch(_GET, post_id, tenant_id)]

    async def analyzed(self, wanted: Wanted, *, offset: int = 0, limit: int = 50) -> tuple[list[Row], int]:
        """Analyzed posts, newest first, and how many there are in all."""
        given = (wanted.tenant_id, wanted.channel_id, wanted.has_meme, wanted.provider, wanted.analyzed_after)
        total = int(await self._pool.fetchval(_COUNT, *given))
        rows = await self._pool.fetch(_PAGE, *given, offset, limit) if offset < total else []
        return [_decoded(row) for row in rows], total

    async def search(self, wanted: PostFilter, behind: Place | None, limit: int) -> list[Row]:
        """Posts of every status, newest first, behind a place: see `post_search.search`."""
        return await search(self._pool, wanted, behind, limit)

    async def medium(self, sha256: str, tenant_id: str | None = None) -> list[Row]:
        """A medium of one tenant, or of all that have it, each with the last analysis in its own posts."""
        return [dict(row) for row in await self._pool.fetch(_MEDIUM, sha256, tenant_id)]

    async def medium_objects(self, sha256: str, tenant_id: str | None = None) -> list[Row]:
        """Where a medium of one tenant is stored, or of two of those that have it."""
        return [dict(row) for row in await self._pool.fetch(_MEDIUM_OBJECT, sha256, tenant_id)]

    async def stats(self, tenant_id: str | None = None) -> Row:
        """Counts of the analyzed posts of one tenant or of all; `by_type` maps a type to its posts."""
        row = dict(await self._pool.fetchrow(_STATS, tenant_id))
        return {**row, "by_type": orjson.loads(row["by_type"])}

    async def stuck(self, before: datetime, tenant_id: str | None = None, limit: int = 100) -> list[Row]:
        """Posts in work since before a time, the oldest first."""
        return [_decoded(row) for row in await self._pool.fetch(_STUCK, before, tenant_id, limit)]

    async def deferred(self, before: datetime, tenant_id: str | None = None, limit: int = 100) -> list[Row]:
        """Posts that have been waiting for money since before a time (`in_work_since`), the oldest first."""
        return [_decoded(row) for row in await self._pool.fetch(_DEFERRED, before, tenant_id, limit)]

    async def unfinished(self, tenant_id: str, before: datetime) -> list[str]:
        """The tenant's posts that are deferred, or in work since before a time, in the order of their emissions."""
        return [row["post_id"] for row in await self._pool.fetch(_UNFINISHED, tenant_id, before)]

    async def tenants_with_unfinished(self, before: datetime) -> list[str]:
        """Tenants that have such posts."""
        return [row["tenant_id"] for row in await self._pool.fetch(_UNFINISHED_TENANTS, before)]

    async def spent_today(self, tenant_id: str, day: date | str) -> int:
        """Tokens charged to a tenant on a UTC day, counted from the last reset of that day if there was one."""
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

    async def tenants(self) -> list[str]:
        """Every tenant that has a post or whose budget an operator has changed."""
        query = "SELECT tenant_id FROM post_enrichment UNION SELECT tenant_id FROM budget_actions"
        return [row["tenant_id"] for row in await self._pool.fetch(query)]

    async def tenants_after(self, after: str, limit: int) -> list[str]:
        """The next tenants by name that have a post or an operator's action, behind `after` ("": from the first)."""
        return [row["tenant_id"] for row in await self._pool.fetch(_TENANTS_AFTER, after, limit)]

    async def record_action(
        self, tenant_id: str, action: Action, operator: str, value: int | None = None, reason: str | None = None
    ) -> int:
        """Record an operator's action on a tenant's budget. Returns the entry's number."""
        query = """INSERT INTO budget_actions (tenant_id, action, operator, value, reason)
                   VALUES ($1, $2, $3, $4, $5) RETURNING id"""
        return int(await self._pool.fetchval(query, tenant_id, action, operator, value, reason))

    async def actions(self, tenant_id: str, limit: int = 20) -> list[Row]:
        """The operators' last actions on a tenant's budget, the newest first: action, value, operator, at, reason."""
        query = """SELECT action, value, operator, at, reason FROM budget_actions WHERE tenant_id = $1
                   ORDER BY id DESC LIMIT $2"""
        return [dict(row) for row in await self._pool.fetch(query, tenant_id, limit)]

    async def _last(self, tenant_id: str, action: Action, column: Literal["value", "at"]) -> Any:
        query = f"SELECT {column} FROM budget_actions WHERE tenant_id = $1 AND action = $2 ORDER BY id DESC LIMIT 1"  # noqa: S608 - a literal
        return await self._pool.fetchval(query, tenant_id, action)


def _decoded(row: Any) -> Row:
    return {
        name: orjson.loads(value) if name in _JSON_COLUMNS and value is not None else value
        for name, value in row.items()
    }
