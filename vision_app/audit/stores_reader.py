"""Reads the stores: rows in Postgres, keys in S3, links in the graph."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from vision_app.clients.neo4j import neo4j_driver, neo4j_patience, neo4j_session
from vision_app.settings import Settings
from vision_app.stores.keys import VISION_PREFIX, segment
from vision_app.stores.s3 import S3Store
from vision_app.stores.text import storable_text

from .material import ChargeRow, Post, Row, RowMedium
from .scope import Scope

AT_ONCE = 1000
GRAPH_CONNECT_SECONDS = 6.0
CHARGES_SINCE = 8
"""The migration that made token_charges."""

_COLUMNS = """
SELECT tenant_id, post_id, status, coalesce(emission_time_ms, 0) AS time_ms, coalesce(emission_offset, -1) AS place,
    in_work_since IS NOT NULL OR status = 'in_work' AS in_work,
    jsonb_path_query_array(data, '$.media[*]') AS media
FROM post_enrichment """
_WRITTEN = _COLUMNS + "WHERE kind = 'vision' AND updated_at >= $1 AND ($2::text[] IS NULL OR tenant_id = ANY($2))"
_NAMED = (
    _COLUMNS
    + "JOIN unnest($1::text[], $2::text[]) AS asked(tenant, post) ON (tenant_id, post_id) = (asked.tenant, asked.post) "
    "WHERE kind = 'vision'"
)
_LINKS = """
MATCH (p:Post)-[:HAS_IMAGE]->(i:ImageContent)
WHERE ($tenants IS NULL OR p.tenant_id IN $tenants) AND p.vision_emission_time_ms >= $since_ms
RETURN p.tenant_id AS tenant, p.post_id AS post, i.sha256 AS sha256
"""


_TABLE = "SELECT applied_at FROM schema_migrations WHERE version = $1"
_CHARGES = """
SELECT tenant_id, ledger, grant_id, tokens, cut_off, round(extract(epoch FROM charged_at) * 1000)::bigint AS at_ms
FROM token_charges """
_CHARGED = _CHARGES + "WHERE charged_at >= $1 AND ($2::text[] IS NULL OR tenant_id = ANY($2))"
_CHARGES_NAMED = (
    _CHARGES + "JOIN unnest($1::text[], $2::text[], $3::text[]) AS asked(tenant, ledger_name, named) "
    "ON (tenant_id, ledger, grant_id) = (asked.tenant, asked.ledger_name, asked.named)"
)


@dataclass(frozen=True)
class ChargeTable:
    """What token_charges holds. `from_ms`: when it was made, None if it was not; `missing`: it was made and is gone."""

    rows: Sequence[ChargeRow] = ()
    from_ms: int | None = 0
    missing: bool = False


async def read_charges(pool: Any, scope: Scope, named: Iterable[tuple[str, str, str]]) -> ChargeTable:
    """The charges made within the time, and those `named` by tenant, ledger and grant. Raises what asyncpg raises."""
    since = datetime.fromtimestamp(scope.since_ms / 1000, UTC)
    tenants = None if scope.tenants is None else sorted(storable_text(tenant) for tenant in scope.tenants)
    found: dict[tuple[str, str, str], ChargeRow] = {}
    async with pool.acquire() as connection:
        made = await _made_at(connection)
        if await connection.fetchval("SELECT to_regclass('token_charges')") is None:
            return ChargeTable(from_ms=made, missing=made is not None)
        async with connection.transaction(readonly=True):
            async for record in connection.cursor(_CHARGED, since, tenants, prefetch=AT_ONCE):
                found[record["tenant_id"], record["ledger"], record["grant_id"]] = ChargeRow(**record)
            left = [key for key in set(named) if key not in found]
            for start in range(0, len(left), AT_ONCE):
                for record in await connection.fetch(_CHARGES_NAMED, *zip(*left[start : start + AT_ONCE], strict=True)):
                    found[record["tenant_id"], record["ledger"], record["grant_id"]] = ChargeRow(**record)
    return ChargeTable(list(found.values()), made or 0)


async def _made_at(connection: Any) -> int | None:
    """When the table of charges was made, in milliseconds since the epoch; None if that is not recorded."""
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return None
    at = await connection.fetchval(_TABLE, CHARGES_SINCE)
    return None if at is None else round(at.timestamp() * 1000)


async def read_rows(pool: Any, scope: Scope, named: Iterable[Post]) -> dict[Post, Row]:
    """The rows written within the time, and those of the posts `named`. Raises what asyncpg raises."""
    since = datetime.fromtimestamp(scope.since_ms / 1000, UTC)
    tenants = None if scope.tenants is None else sorted(scope.tenants)
    found: dict[Post, Row] = {}
    async with pool.acquire() as connection, connection.transaction(readonly=True):
        async for record in connection.cursor(_WRITTEN, since, tenants, prefetch=AT_ONCE):
            row = _row(record)
            found[row.post] = row
    left = [post for post in set(named) if post not in found and post[1]]
    for start in range(0, len(left), AT_ONCE):
        asked = left[start : start + AT_ONCE]
        for record in await pool.fetch(_NAMED, [tenant for tenant, _ in asked], [post for _, post in asked]):
            row = _row(record)
            found[row.post] = row
    return found


def _row(record: Any) -> Row:
    media = tuple(
        RowMedium(
            sha256=str(item.get("sha256")),
            status=str(item.get("status")),
            reason=item.get("reason"),
            deferred=bool((item.get("details") or {}).get("deferred")),
            provider=item.get("provider"),
            answer_key=item.get("answer_s3_key"),
        )
        for item in orjson.loads(record["media"] or "[]")
    )
    emission = int(record["time_ms"]), int(record["place"])
    return Row(record["tenant_id"], record["post_id"], record["status"], emission, record["in_work"], media)


@dataclass
class Objects:
    """Keys below `vision/`, by kind."""

    answers: set[str] = field(default_factory=set)
    documents: set[str] = field(default_factory=set)
    calls: set[str] = field(default_factory=set)


async def read_objects(s3: S3Store, scope: Scope) -> Objects:
    """List the objects of the tenants. Raises S3Error."""
    objects = Objects()
    async for key in _keys(s3, scope):
        kind = key.split("/")[2] if key.count("/") > 2 else ""
        {"posts": objects.documents, ".calls": objects.calls}.get(kind, objects.answers).add(key)
    return objects


async def _keys(s3: S3Store, scope: Scope) -> AsyncIterator[str]:
    below = [""] if scope.tenants is None else [f"{segment(tenant)}/" for tenant in sorted(scope.tenants)]
    for prefix in below:
        async for head in s3.list(VISION_PREFIX + prefix):
            yield head.key


async def read_graph(settings: Settings, scope: Scope) -> set[tuple[str, str, str]] | None:
    """(tenant, post, sha256) of every picture that the graph links to its post; None when it is switched off."""
    if not settings.feature_neo4j_enabled:
        return None
    tenants = None if scope.tenants is None else sorted(scope.tenants)
    async with (
        neo4j_driver(settings, **neo4j_patience(GRAPH_CONNECT_SECONDS)) as driver,
        neo4j_session(driver, settings) as session,
    ):
        answer = await session.run(_LINKS, tenants=tenants, since_ms=scope.since_ms)
        return {(record["tenant"], record["post"], record["sha256"]) async for record in answer}
