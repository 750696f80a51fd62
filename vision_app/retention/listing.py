"""Lists the whole bucket, page by page, into temporary tables of one Postgres connection.

Postgres sorts and joins, so that this process never holds more than a page. From the listing we correct the accounts
(`settle_accounts`) and `media_objects` (`correct_media`), and make the objects for the planner (`judge`). The
connection holds the lock that lets only one worker do this at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from vision_app.domain.storage import TYPE_OF, Kind, StoredObject
from vision_app.stores.keys import answers_about, parse_key
from vision_app.stores.s3 import ObjectHead, S3Store

PAGE = 1000
_COLUMNS = ("s3_key", "account", "kind", "content_type", "size_bytes", "modified_at", "subject")

_TABLES = """
DROP TABLE IF EXISTS listed, unfinished, judged;
CREATE TEMP TABLE listed (s3_key text, account text, kind text, content_type text, size_bytes bigint,
    modified_at timestamptz, subject text);
CREATE TEMP TABLE unfinished (what text)"""

# posts in work, and posts with media that wait for the next day's budget
UNFINISHED = """kind = 'vision' AND (in_work_since IS NOT NULL OR data @> '{"media": [{"status": "deferred"}]}')"""
_NEEDED = f"""
SELECT pe.tenant_id, m.file_sha256, m.s3_key FROM post_enrichment AS pe
JOIN post_media_map AS p USING (tenant_id, post_id)
JOIN media_objects AS m ON (m.tenant_id, m.file_sha256) = (p.tenant_id, p.file_sha256) WHERE pe.{UNFINISHED}
UNION SELECT pe.tenant_id, item ->> 'sha256', item ->> 's3_key'
FROM post_enrichment AS pe CROSS JOIN jsonb_array_elements(pe.data -> 'media') AS item WHERE pe.{UNFINISHED}"""  # noqa: S608 - made of constants only

_JUDGED = """
CREATE TEMP TABLE judged AS
SELECT l.s3_key, l.account, l.kind, l.size_bytes, l.modified_at, extract(epoch FROM l.modified_at)::float8 AS modified,
    CASE WHEN l.kind = 'media' THEN extract(epoch FROM m.seen_at)::float8 END AS seen,
    EXISTS (SELECT FROM unfinished AS u WHERE u.what = CASE l.kind WHEN 'answer' THEN l.subject ELSE l.s3_key END)
        AS needed
FROM listed AS l LEFT JOIN (
    SELECT s3_key, max(last_seen_at) AS seen_at FROM media_objects GROUP BY s3_key
) AS m ON m.s3_key = l.s3_key"""
_OBJECTS = "SELECT s3_key, account, kind, size_bytes, modified, seen, needed FROM judged"
_BY_AGE = f'{_OBJECTS} ORDER BY greatest(modified, seen), s3_key COLLATE "C"'

# Of objects that others write, all listed ones count. Of ours (vision), only those older than the listing: what is
# newer is in since_*, whether or not the listing includes it.
_SETTLE = """
WITH counted AS (
    SELECT account, content_type, sum(size_bytes)::bigint AS bytes, count(*) AS objects FROM listed
    WHERE content_type <> 'vision' OR modified_at < to_timestamp($1) GROUP BY 1, 2
), ours AS (
    SELECT tenant_id, content_type, total_bytes, CASE content_type WHEN 'vision' THEN since_bytes ELSE 0 END AS bytes,
        CASE content_type WHEN 'vision' THEN since_objects ELSE 0 END AS objects FROM tenant_storage_usage
), found AS (
    SELECT coalesce(c.account, u.tenant_id) AS tenant_id, coalesce(c.content_type, u.content_type) AS content_type,
        greatest(0, coalesce(c.bytes, 0) + coalesce(u.bytes, 0)) AS bytes,
        greatest(0, coalesce(c.objects, 0) + coalesce(u.objects, 0)) AS objects, coalesce(u.total_bytes, 0) AS before
    FROM counted AS c FULL JOIN ours AS u ON u.tenant_id = c.account AND u.content_type = c.content_type
), written AS (
    INSERT INTO tenant_storage_usage AS u (tenant_id, content_type, total_bytes, objects_count)
    SELECT tenant_id, content_type, bytes, objects FROM found
    ON CONFLICT (tenant_id, content_type) DO UPDATE SET total_bytes = EXCLUDED.total_bytes,
        objects_count = EXCLUDED.objects_count, since_bytes = 0, since_objects = 0, last_updated = now()
)
UPDATE storage_state SET counted_from = to_timestamp($1), counting_from = NULL, counted_at = now(),
    drift_bytes = (SELECT coalesce(sum(abs(bytes - before)), 0) FROM found)"""

_MEDIA_SIZES = """
UPDATE media_objects AS m SET size_bytes = l.size_bytes FROM listed AS l
WHERE l.kind = 'media' AND l.s3_key = m.s3_key AND l.size_bytes <> m.size_bytes"""
_MEDIA_REFS = """
WITH counted AS (
    SELECT m.tenant_id, m.file_sha256, count(p.post_id) AS posts FROM media_objects AS m
    LEFT JOIN post_media_map AS p USING (tenant_id, file_sha256) GROUP BY 1, 2
)
UPDATE media_objects AS m SET refs_count = counted.posts FROM counted
WHERE (m.tenant_id, m.file_sha256) = (counted.tenant_id, counted.file_sha256) AND m.refs_count <> counted.posts"""
_REVIVE_EXPIRED = """
DELETE FROM expired_objects AS e USING listed AS l
WHERE l.s3_key = e.s3_key AND (e.expired_at IS NOT NULL OR l.modified_at IS DISTINCT FROM e.modified_at)"""
# an hour's margin: a row may be written after the listing has passed its object's key
_GONE = """
WITH named AS (
    SELECT DISTINCT s3_key, tenant_id, kind FROM (
        SELECT jsonb_array_elements_text(s3_vision_keys) AS s3_key, tenant_id, 'answer' AS kind FROM post_enrichment
        WHERE kind = 'vision' AND vision_analyzed_at IS NOT NULL AND updated_at < to_timestamp($1) - interval '1 hour'
        UNION ALL
        SELECT jsonb_array_elements_text(s3_media_keys), tenant_id, 'media' FROM post_enrichment
        WHERE kind = 'vision' AND vision_analyzed_at IS NOT NULL AND updated_at < to_timestamp($1) - interval '1 hour'
    ) AS keys WHERE length(s3_key) BETWEEN 1 AND 1024
)
INSERT INTO expired_objects (s3_key, tenant_id, kind, size_bytes, reason, expired_at)
SELECT DISTINCT ON (s3_key) s3_key, tenant_id, kind, 0, 'gone', now() FROM named
WHERE NOT EXISTS (SELECT FROM listed AS l WHERE l.s3_key = named.s3_key) ORDER BY s3_key
ON CONFLICT (s3_key) DO NOTHING"""


async def begin(connection: Any, bucket: str) -> int:
    """Record that a listing begins at the next full second, the resolution of stores' times, and wait for it.

    So every change of ours is either before that second, and the listing includes it, or after it, and is in since_*.
    """
    began = int(time.time()) + 1
    async with connection.transaction():
        await connection.execute(
            "UPDATE storage_state SET counting_from = to_timestamp($1), bucket = $2", began, bucket
        )
        await connection.execute("UPDATE tenant_storage_usage SET since_bytes = 0, since_objects = 0")
    await asyncio.sleep(began - time.time())
    return began


async def load(connection: Any, s3: S3Store) -> int:
    """List the whole bucket into the connection's temporary table. Returns the number of objects."""
    await connection.execute(_TABLES)
    count, page = 0, list[ObjectHead]()
    async for head in s3.list(""):
        page.append(head)
        if len(page) == PAGE:
            count += await _keep(connection, page)
            page = []
    count += await _keep(connection, page)
    await connection.execute("ANALYZE listed")
    return count


async def _keep(connection: Any, page: Sequence[ObjectHead]) -> int:
    await connection.copy_records_to_table("listed", records=[_record(head) for head in page], columns=_COLUMNS)
    return len(page)


def _record(head: ObjectHead) -> tuple[Any, ...]:
    place = parse_key(head.key)
    content_type = TYPE_OF[place.kind]
    return head.key, place.account, place.kind, content_type, head.size_bytes, head.last_modified, place.subject


async def settle_accounts(connection: Any, began: int) -> None:
    """Set `tenant_storage_usage` to what the listing found plus what our writers have changed since it began."""
    async with connection.transaction():
        await connection.execute("SELECT only_row FROM storage_state FOR UPDATE")
        await connection.execute(_SETTLE, began)
        await connection.execute("DELETE FROM tenant_storage_usage WHERE total_bytes = 0 AND objects_count = 0")


async def correct_expired(connection: Any) -> None:
    """Drop records of expired objects that exist again, and decisions about objects that were written again since."""
    await connection.execute(_REVIVE_EXPIRED)


async def correct_media(connection: Any, began: int) -> None:
    """Correct sizes and references in `media_objects`. Objects that rows name but the bucket lacks are marked gone."""
    async with connection.transaction():
        await connection.execute(_MEDIA_SIZES)
        await connection.execute(_MEDIA_REFS)
        await connection.execute(_GONE, began)


async def judge(connection: Any) -> None:
    """Join the listing with what is known of its objects: when a post last listed them, whether one needs them."""
    async with connection.transaction():
        cursor = await connection.cursor(_NEEDED)
        while rows := await cursor.fetch(PAGE):
            batch = {text for row in rows for text in _needs(row)}
            await connection.copy_records_to_table("unfinished", records=[(text,) for text in batch])
    await connection.execute("ANALYZE unfinished")
    await connection.execute(_JUDGED)


def _needs(row: Any) -> tuple[str, ...]:
    """What an unfinished post needs: a picture and all answers about it, which save calls."""
    subject = answers_about(row["tenant_id"], row["file_sha256"]) if row["file_sha256"] else ""
    return tuple(text for text in (row["s3_key"], subject) if text)


async def objects(connection: Any, *, by_age: bool = False) -> AsyncIterator[list[StoredObject]]:
    """The judged objects, a page at a time. Must run in a transaction; the caller may write between pages."""
    cursor = await connection.cursor(_BY_AGE if by_age else _OBJECTS)
    while rows := await cursor.fetch(PAGE):
        yield [_stored(row) for row in rows]


def _stored(row: Any) -> StoredObject:
    key, account, kind, size, modified, seen, needed = row
    return StoredObject(key, account, cast(Kind, kind), size, modified, seen, needed)
