"""The accounts of storage in `tenant_storage_usage`: updated by every write of ours, repaired by listings.

A worker notes its changes in memory and writes them every few seconds (`Accounts`), so that no write to S3 waits for
Postgres or fails with it. The next listing (`listing.py`) repairs what a crash lost and what others wrote. Each change
has its time: a listing that began later includes it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from vision_app.domain.storage import TYPE_OF
from vision_app.stores.keys import parse_key

MAX_CHANGES = 10_000
"""Most sums (by tenant, type, second) held while Postgres is away. More are dropped, and a listing is due."""

_GIVEN = """
FROM jsonb_to_recordset($1::jsonb) AS r(tenant_id text, content_type text, bytes bigint, objects bigint, at float8)
CROSS JOIN storage_state AS s
WHERE r.at >= coalesce(extract(epoch FROM s.counted_from), 0)"""

_LOCK = "SELECT only_row FROM storage_state FOR SHARE"
_ROWS = f"""
INSERT INTO tenant_storage_usage (tenant_id, content_type, total_bytes, objects_count)
SELECT DISTINCT r.tenant_id, r.content_type, 0, 0 {_GIVEN} ORDER BY 1, 2 ON CONFLICT DO NOTHING"""
_ADD = f"""
WITH given AS (
    SELECT r.tenant_id, r.content_type, sum(r.bytes)::bigint AS bytes, sum(r.objects)::bigint AS objects,
        coalesce(sum(r.bytes) FILTER (WHERE r.at >= extract(epoch FROM s.counting_from)), 0)::bigint AS since_bytes,
        coalesce(sum(r.objects) FILTER (WHERE r.at >= extract(epoch FROM s.counting_from)), 0)::bigint AS since_objects
    {_GIVEN} GROUP BY 1, 2
), locked AS (
    SELECT u.tenant_id, u.content_type FROM tenant_storage_usage AS u JOIN given USING (tenant_id, content_type)
    ORDER BY 1, 2 FOR UPDATE OF u
)
UPDATE tenant_storage_usage AS u SET last_updated = now(),
    total_bytes = greatest(0, u.total_bytes + given.bytes),
    objects_count = greatest(0, u.objects_count + given.objects),
    since_bytes = u.since_bytes + given.since_bytes, since_objects = u.since_objects + given.since_objects
FROM given JOIN locked USING (tenant_id, content_type)
WHERE (u.tenant_id, u.content_type) = (given.tenant_id, given.content_type)"""  # noqa: S608 - our own text
_DELETE_EXPIRY_RECORDS = "DELETE FROM expired_objects WHERE s3_key = ANY($1) AND expired_at IS NOT NULL"
_REQUEST_COUNT = "UPDATE storage_state SET requested_at = now()"
"""A clean-up, which begins with a count. A count that is running now would not do: it may have passed the objects."""

_USAGE = """
SELECT tenant_id, content_type, total_bytes, objects_count, last_updated FROM tenant_storage_usage
WHERE $1::text IS NULL OR tenant_id = $1"""


@dataclass
class Accounts:
    """Changes not yet written. `flush` writes them and returns the accounts that grew, for the check of quotas."""

    _changes: dict[tuple[str, str, int], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    _written_keys: set[str] = field(default_factory=set)
    _dropped: bool = False

    def note_change(self, key: str, before: int | None, after: int | None, began: float) -> None:
        """Note that an object was written or deleted. Sizes in bytes; None: no object. A `stores.s3.ChangeObserver`."""
        place = parse_key(key)
        change = self._changes[place.account, TYPE_OF[place.kind], int(began)]
        change[0] += (after or 0) - (before or 0)
        change[1] += (after is not None) - (before is not None)
        if after is not None and place.kind in ("answer", "media"):
            self._written_keys.add(key)
        if len(self._changes) > MAX_CHANGES or len(self._written_keys) > MAX_CHANGES:
            self._changes.clear()
            self._written_keys.clear()
            self._dropped = True

    async def flush(self, pool: Any) -> dict[tuple[str, str], int]:
        """Write the noted changes. Returns the objects added per (account, content type).

        Raises asyncpg's errors; then all changes are kept for the next time.
        """
        changes, keys, dropped = dict(self._changes), set(self._written_keys), self._dropped
        if not (changes or keys or dropped):
            return {}
        self._changes.clear()
        self._written_keys.clear()
        self._dropped = False
        try:
            await _write(pool, changes, keys, dropped)
        except BaseException:
            self._restore_changes(changes, keys, dropped)
            raise
        grown: dict[tuple[str, str], int] = defaultdict(int)
        for (account, content_type, _), (_, objects) in changes.items():
            if objects > 0:
                grown[account, content_type] += objects
        return grown

    def _restore_changes(
        self, changes: Mapping[tuple[str, str, int], list[int]], keys: set[str], dropped: bool
    ) -> None:
        for place, (size, objects) in changes.items():
            change = self._changes[place]
            change[0] += size
            change[1] += objects
        self._written_keys |= keys
        self._dropped |= dropped


async def _write(pool: Any, changes: Mapping[tuple[str, str, int], list[int]], keys: set[str], dropped: bool) -> None:
    given = [
        {"tenant_id": account, "content_type": content_type, "bytes": size, "objects": objects, "at": second}
        for (account, content_type, second), (size, objects) in changes.items()
    ]
    async with pool.acquire() as connection, connection.transaction():
        await add(connection, given)
        if keys:
            await connection.execute(_DELETE_EXPIRY_RECORDS, list(keys))
        if dropped:
            await connection.execute(_REQUEST_COUNT)


async def add(connection: Any, given: list[dict[str, Any]]) -> None:
    """Add changes to the accounts. Must run in a transaction. No listing can end before the transaction ends."""
    await connection.execute(_LOCK)
    if not given:
        return
    records = orjson.dumps(given).decode()
    await connection.execute(_ROWS, records)
    await connection.execute(_ADD, records)


async def add_now(connection: Any, account: str, content_type: str, size_bytes: int, objects: int) -> None:
    """Add one change with the time of now. Must run in a transaction."""
    change = {"tenant_id": account, "content_type": content_type, "bytes": size_bytes, "objects": objects}
    await add(connection, [{**change, "at": time.time()}])


async def delete_expiry_records(connection: Any, keys: list[str]) -> None:
    """These objects exist again: delete the records that they expired."""
    await connection.execute(_DELETE_EXPIRY_RECORDS, keys)


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """Bytes and objects by content type, of one account or of the bucket. `updated_at`: None if never counted."""

    size_bytes: Mapping[str, int]
    objects: Mapping[str, int]
    updated_at: datetime | None

    @property
    def total_bytes(self) -> int:
        return sum(self.size_bytes.values())

    @property
    def total_objects(self) -> int:
        return sum(self.objects.values())


async def usage(pool: Any, account: str | None = None) -> Usage:
    """The usage of the bucket, or of one account."""
    return _summed(await pool.fetch(_USAGE, account))


async def usage_by_account(pool: Any) -> dict[str, Usage]:
    """The usage of every account."""
    rows: dict[str, list[Any]] = defaultdict(list)
    for row in await pool.fetch(_USAGE, None):
        rows[row["tenant_id"]].append(row)
    return {account: _summed(of_account) for account, of_account in rows.items()}


def sum_usages(usages: Mapping[str, Usage]) -> Usage:
    """The sum of all accounts."""
    sizes: dict[str, int] = defaultdict(int)
    objects: dict[str, int] = defaultdict(int)
    for one in usages.values():
        for content_type, size in one.size_bytes.items():
            sizes[content_type] += size
            objects[content_type] += one.objects[content_type]
    times = [one.updated_at for one in usages.values() if one.updated_at is not None]
    return Usage(sizes, objects, max(times, default=None))


def _summed(rows: list[Any]) -> Usage:
    sizes: dict[str, int] = defaultdict(int)
    objects: dict[str, int] = defaultdict(int)
    for row in rows:
        sizes[row["content_type"]] += row["total_bytes"]
        objects[row["content_type"]] += row["objects_count"]
    return Usage(sizes, objects, max((row["last_updated"] for row in rows), default=None))


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
