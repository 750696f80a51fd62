"""Finds rows of posts also by other ids, and restores the input event of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vision_app.messages import Medium, Uploaded
from vision_app.stores.posts import PostsReader, Row

_OF_TRACE = "SELECT tenant_id, post_id FROM post_enrichment WHERE kind = 'vision' AND trace_id = $1 LIMIT 20"
_OF_ENTRY = """
SELECT tenant_id, post_id FROM post_enrichment
WHERE kind = 'vision' AND data @> jsonb_build_object('event', jsonb_build_object('source_entry_id', $1::text))
LIMIT 20"""
_BY_PROVIDER = """
SELECT tenant_id, post_id FROM post_enrichment
WHERE kind = 'vision'
  AND data @> jsonb_build_object('media', jsonb_build_array(jsonb_build_object('provider', $1::text)))
  AND ($2::text IS NULL OR tenant_id = $2)
  AND ($3::timestamptz IS NULL OR updated_at >= $3) AND ($4::timestamptz IS NULL OR updated_at < $4)
ORDER BY updated_at"""

_ADDED = frozenset({"status", "dispatch", "tokens_billed", "times", "cached", "answer_s3_key", "reason", "details"})
_ADDED |= {"dead_letter_id", "tokens"}
_ADDED |= {"provider", "model", "verdict", "duration_ms", "analyzed_at"}
"""The fields that `stores/rows.py` adds to a medium of the event."""


class RowFinder:
    """Finds rows. Raises what asyncpg raises."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._posts = PostsReader(pool)

    async def find(self, text: str, tenant_id: str | None = None) -> list[Row]:
        """The rows of a post id, else of a trace id, else of an input entry's id."""
        if rows := await self._posts.get(text, tenant_id):
            return rows
        for query in (_OF_TRACE, _OF_ENTRY):
            named = await self._pool.fetch(query, text)
            rows = [row for name in named for row in await self._posts.get(name["post_id"], name["tenant_id"])]
            if rows := [row for row in rows if tenant_id in (None, row["tenant_id"])]:
                return rows
        return []

    async def by_provider(self, provider: str, tenant_id: str | None, since: Any, until: Any) -> list[Row]:
        """Rows with at least one medium answered by `provider`, last written between two times, the oldest first."""
        named = await self._pool.fetch(_BY_PROVIDER, provider, tenant_id, since, until)
        return [row for name in named for row in await self._posts.get(name["post_id"], name["tenant_id"])]


def event_of(row: Mapping[str, Any]) -> Uploaded | None:
    """The input event of a row, with all its media in order; None if the row does not contain it."""
    data = row["data"] or {}
    media = [
        Medium.model_validate({name: value for name, value in item.items() if name not in _ADDED})
        for item in data.get("media", ())
    ]
    return Uploaded.model_validate({**data["event"], "media_files": media}) if media and data.get("event") else None
