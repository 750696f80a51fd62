"""Reads what was spent and what was saved, grouped by one dimension, for the owner's accounts.

Spent: `token_charges`, exact. Saved: the media of the posts that changed in the time, as their rows show them now.
Every method raises asyncpg's errors unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Dimension = Literal["tenant", "channel", "rule", "model", "kind", "day"]

MOST_TOKENS = 2**63 - 1
"""Postgres' largest bigint. A larger sum is shown as this one: one hostile row must not take the figures away."""
UNKNOWN = "unknown"
"""The group of charges whose post has no row or no answer that says more."""


@dataclass(frozen=True)
class Spent:
    """Charges of one group and model: grants, tokens, and of these the tokens of calls that were cut off."""

    group: str
    model: str
    calls: int
    tokens: int
    cut_off_tokens: int


@dataclass(frozen=True)
class Saved:
    """Media of one group that cost nothing, and why. `tokens`: what their answers cost once; 0 where unknown."""

    group: str
    how: str
    media: int
    tokens: int


_SPENT_BY: Mapping[Dimension, str] = {
    "tenant": "c.tenant_id",
    "channel": "pe.metadata ->> 'channel_id'",
    "rule": "c.prompt",
    "model": "medium ->> 'model'",
    "kind": "seen #>> '{analysis,classification}'",
    "day": "to_char(c.charged_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}
_SAVED_BY: Mapping[Dimension, str] = {
    "tenant": "pe.tenant_id",
    "channel": "pe.metadata ->> 'channel_id'",
    "rule": "medium #>> '{details,policy_name}'",
    "model": "medium ->> 'model'",
    "kind": "seen #>> '{analysis,classification}'",
    "day": "to_char(pe.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}

_MEDIUM_OF_CHARGE = """
LEFT JOIN post_enrichment AS pe ON (pe.tenant_id, pe.post_id, pe.kind) = (c.tenant_id, c.post_id, 'vision')
LEFT JOIN LATERAL (
    SELECT item AS medium FROM jsonb_array_elements(pe.data -> 'media') AS item
    WHERE item ->> 'sha256' = c.file_sha256 LIMIT 1
) AS m ON true
LEFT JOIN LATERAL (
    SELECT item AS seen FROM jsonb_array_elements(pe.data -> 'enrichments') AS item
    WHERE item ->> 'sha256' = c.file_sha256 LIMIT 1
) AS e ON true"""

_SPENT = """
SELECT coalesce({group}, '{unknown}') AS "group", coalesce(medium ->> 'model', $4::text) AS model, count(*) AS calls,
    least(sum(c.tokens), {most})::bigint AS tokens,
    least(coalesce(sum(c.tokens) FILTER (WHERE c.cut_off), 0), {most})::bigint AS cut_off
FROM token_charges AS c {joined}
WHERE c.charged_at >= $1 AND c.charged_at < $2 AND ($3::text IS NULL OR c.tenant_id = $3)
GROUP BY 1, 2 ORDER BY tokens DESC, 1, 2"""

_SAVED = """
SELECT "group", how, count(*) AS media, least(sum(tokens), {most})::bigint AS tokens FROM (
    SELECT coalesce({group}, '{unknown}') AS "group",
        CASE
            WHEN (medium ->> 'cached')::boolean AND medium ->> 'analyzed_at' >
                to_char(to_timestamp((pe.data #>> '{{times,opened}}')::numeric / 1000.0) AT TIME ZONE 'UTC',
                    'YYYY-MM-DD"T"HH24:MI:SS.US') THEN 'single_flight'
            WHEN (medium ->> 'cached')::boolean THEN 'cache'
            WHEN medium ->> 'provider' = 'ocr_fallback' THEN 'ocr'
            WHEN (medium #>> '{{details,deferred}}')::boolean THEN 'deferred'
            WHEN medium #>> '{{details,policy_name}}' IS NOT NULL THEN 'policy'
        END AS how,
        CASE WHEN (medium ->> 'cached')::boolean THEN coalesce((medium ->> 'tokens')::numeric, 0) ELSE 0 END AS tokens
    FROM post_enrichment AS pe
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (item ->> 'sha256') item AS medium FROM jsonb_array_elements(pe.data -> 'media') AS item
    ) AS m
    LEFT JOIN LATERAL (
        SELECT item AS seen FROM jsonb_array_elements(pe.data -> 'enrichments') AS item
        WHERE item ->> 'sha256' = medium ->> 'sha256' LIMIT 1
    ) AS e ON true
    WHERE pe.kind = 'vision' AND pe.updated_at >= $1 AND pe.updated_at < $2 AND ($3::text IS NULL OR pe.tenant_id = $3)
) AS found WHERE how IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"""


@dataclass(frozen=True)
class Period:
    """From `since` (included) to `until` (excluded), of one tenant or of all."""

    since: datetime
    until: datetime
    tenant_id: str | None = None


class CostReader:
    """Reads through a pool of `postgres.create_pool`. `model`: the configured one, for charges that name none."""

    def __init__(self, pool: Any, model: str) -> None:
        self._pool, self._model = pool, model

    async def spent(self, by: Dimension, of: Period) -> list[Spent]:
        """The charges by group and model, the dearest first."""
        query = _SPENT.format(group=_SPENT_BY[by], unknown=UNKNOWN, joined=_MEDIUM_OF_CHARGE, most=MOST_TOKENS)
        rows = await self._pool.fetch(query, of.since, of.until, of.tenant_id, self._model)
        return [Spent(row["group"], row["model"], row["calls"], row["tokens"], row["cut_off"]) for row in rows]

    async def saved(self, by: Dimension, of: Period) -> list[Saved]:
        """The media that cost nothing, by group and by how."""
        query = _SAVED.format(group=_SAVED_BY[by], unknown=UNKNOWN, most=MOST_TOKENS)
        rows = await self._pool.fetch(query, of.since, of.until, of.tenant_id)
        return [Saved(row["group"], row["how"], row["media"], row["tokens"]) for row in rows]

    async def tokens(self, of: Period) -> int:
        """The tokens charged in a time."""
        query = f"""SELECT least(coalesce(sum(tokens), 0), {MOST_TOKENS})::bigint FROM token_charges
                   WHERE charged_at >= $1 AND charged_at < $2 AND ($3::text IS NULL OR tenant_id = $3)"""  # noqa: S608 - a number of ours
        return int(await self._pool.fetchval(query, of.since, of.until, of.tenant_id))
