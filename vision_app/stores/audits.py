"""Accounts that were asked for over the API or the page: who runs one, how it ended, and its summary.

At most one runs at a time, on whichever worker. That worker renews its row; a row that was not renewed for LEASE is
shown as cut off, since its worker has died. All times are the database's. Raises asyncpg's errors unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

RunState = Literal["running", "taken", "failed", "cut_off"]
"""cut_off: its worker stopped or died before the end."""

LEASE = timedelta(seconds=30)
KEPT = 20
"""Accounts of each scope that are kept, besides the last one that was taken."""

_BEGIN = """
INSERT INTO audits (tenant_id, since, operator, worker) VALUES ($1, $2, $3, $4)
ON CONFLICT (state) WHERE state = 'running' DO NOTHING RETURNING id"""
_GIVE_UP = """
UPDATE audits SET state = 'cut_off', ended_at = now() WHERE state = 'running' AND renewed_at < now() - $1::interval"""
_PRUNE = """
DELETE FROM audits WHERE tenant_id = $1 AND state <> 'running'
AND id NOT IN (SELECT id FROM audits WHERE tenant_id = $1 ORDER BY id DESC LIMIT $2)
AND id NOT IN (SELECT max(id) FROM audits WHERE tenant_id = $1 AND state = 'taken' HAVING count(*) > 0)"""
_RENEW = """
UPDATE audits SET renewed_at = now() WHERE tenant_id = $1 AND id = $2 AND state = 'running' RETURNING id"""
_END = """
UPDATE audits SET state = $3, reason = $4, summary = $5::jsonb, ended_at = now()
WHERE tenant_id = $1 AND id = $2 AND state = 'running' RETURNING id"""
_COLUMNS = """
SELECT tenant_id, id, since, operator, worker, started_at, ended_at, reason, summary::text,
    CASE WHEN state = 'running' AND renewed_at < now() - $1::interval THEN 'cut_off' ELSE state END AS state
FROM audits """
_LAST = _COLUMNS + "WHERE tenant_id = $2 ORDER BY id DESC LIMIT 1"
_LAST_TAKEN = _COLUMNS + "WHERE tenant_id = $2 AND state = 'taken' ORDER BY id DESC LIMIT 1"
_ONE = _COLUMNS + "WHERE tenant_id = $2 AND id = $3"
_RUNNING = _COLUMNS + "WHERE state = 'running' AND renewed_at >= now() - $1::interval"


@dataclass(frozen=True)
class AuditRecord:
    """An account that was asked for. `tenant_id` "": of all tenants; `since` None: of all data that is kept.

    `reason`: why it has no `summary` (JSON), and what to do next.
    """

    tenant_id: str
    id: int
    since: datetime | None
    state: RunState
    operator: str
    worker: str
    started_at: datetime
    ended_at: datetime | None
    reason: str | None
    summary: str | None


class Audits:
    """Records accounts and reads them."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def begin(self, tenant_id: str, since: datetime | None, operator: str, worker: str) -> AuditRecord | None:
        """Record that a worker begins an account. None, and nothing recorded, while another one runs."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_GIVE_UP, LEASE)
            begun = await connection.fetchval(_BEGIN, tenant_id, since, operator, worker)
            if begun is None:
                return None
            await connection.execute(_PRUNE, tenant_id, KEPT)
            return _record(await connection.fetchrow(_ONE, LEASE, tenant_id, begun))

    async def renew(self, one: AuditRecord) -> bool:
        """Say that its worker lives. False if it does not run any more: another worker took it for dead."""
        return await self._pool.fetchval(_RENEW, one.tenant_id, one.id) is not None

    async def end(self, one: AuditRecord, state: RunState, reason: str | None, summary: str | None) -> bool:
        """Record how it ended. False if that was already recorded."""
        return await self._pool.fetchval(_END, one.tenant_id, one.id, state, reason, summary) is not None

    async def running(self) -> AuditRecord | None:
        """The account that some worker takes now."""
        return _record(await self._pool.fetchrow(_RUNNING, LEASE))

    async def last(self, tenant_id: str) -> AuditRecord | None:
        """The account of this scope that was begun last."""
        return _record(await self._pool.fetchrow(_LAST, LEASE, tenant_id))

    async def last_taken(self, tenant_id: str) -> AuditRecord | None:
        """The last account of this scope with a summary."""
        return _record(await self._pool.fetchrow(_LAST_TAKEN, LEASE, tenant_id))


def _record(row: Any) -> AuditRecord | None:
    return None if row is None else AuditRecord(**row)
