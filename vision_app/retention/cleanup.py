"""Counts and cleans up the bucket: list, correct the accounts, decide, delete. One worker at a time.

Decisions are written to `expired_objects`, without `expired_at`, before anything is deleted. If a run is killed at any
point, the next run carries out the remaining decisions, with the same result. Each batch is checked again before it is
deleted: objects that a post needs by then stay.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from vision_app.domain.storage import (
    TYPE_OF,
    Aim,
    CleanupPlan,
    CleanupTally,
    Deletion,
    Protection,
    Reason,
    StorageLimits,
    deletion,
    plan,
)
from vision_app.settings import Settings
from vision_app.stores.keys import answers_about, parse_key
from vision_app.stores.s3 import DELETE_BATCH, S3Store
from vision_app.telemetry import metrics
from vision_app.telemetry.metrics import tenant_label

from . import listing
from .accounts import add
from .limits import gib, limits_of
from .lock import WAIT_SECONDS, exclusively

log = structlog.get_logger(__name__)

KEPT_KINDS = ("answer", "media")
"""Kinds that rows of posts name by key. The deletion of such an object is remembered."""

_MARK_FOR_DELETION = """
INSERT INTO expired_objects AS e (s3_key, tenant_id, kind, size_bytes, modified_at, reason)
SELECT j.s3_key, j.account, j.kind, j.size_bytes, j.modified_at, c.reason
FROM unnest($1::text[], $2::text[]) AS c(s3_key, reason) JOIN judged AS j USING (s3_key)
ON CONFLICT (s3_key) DO UPDATE SET tenant_id = EXCLUDED.tenant_id, kind = EXCLUDED.kind, reason = EXCLUDED.reason,
    size_bytes = EXCLUDED.size_bytes, modified_at = EXCLUDED.modified_at, condemned_at = now(), expired_at = NULL"""
_RECORD_EARLIER_DELETIONS = """
UPDATE expired_objects AS e SET expired_at = now() WHERE expired_at IS NULL
  AND NOT EXISTS (SELECT FROM listed AS l WHERE l.s3_key = e.s3_key)"""
_PENDING = """
SELECT s3_key, tenant_id, kind, size_bytes, reason FROM expired_objects WHERE expired_at IS NULL
ORDER BY condemned_at, s3_key LIMIT $1"""
_UNFINISHED_AMONG = f"""
SELECT m.s3_key, m.tenant_id, m.file_sha256 FROM media_objects AS m
JOIN post_media_map AS p USING (tenant_id, file_sha256) JOIN post_enrichment AS pe USING (tenant_id, post_id)
WHERE (m.s3_key = ANY($1) OR m.file_sha256 = ANY($2)) AND pe.{listing.UNFINISHED}"""  # noqa: S608 - our own text
_UNMARK = "DELETE FROM expired_objects WHERE s3_key = ANY($1) AND expired_at IS NULL"
_RECORD_DELETION = "UPDATE expired_objects SET expired_at = now() WHERE s3_key = ANY($1)"
_DROP_RECORDS = "DELETE FROM expired_objects WHERE s3_key = ANY($1) AND NOT kind = ANY($2)"
_DROP_DONE_RECORDS = "DELETE FROM expired_objects WHERE expired_at IS NOT NULL AND NOT kind = ANY($1)"


@dataclass
class Report:
    """What a run found and did. `freed` and `deleted` by (content type, reason); a dry run says what it would do."""

    aim: Aim
    dry_run: bool = False
    listed: int = 0
    total_bytes: int = 0  # at the time of the decision
    left_bytes: int = 0
    deleted: Counter[tuple[str, str]] = field(default_factory=Counter)
    freed: Counter[tuple[str, str]] = field(default_factory=Counter)
    by_tenant: Counter[str] = field(default_factory=Counter)
    protected: Counter[Protection] = field(default_factory=Counter)
    refused: int = 0  # objects that the store refused to delete
    unmarked: int = 0  # objects that became needed after the decision
    emergency: bool = False
    shortfall_bytes: int = 0
    seconds: float = 0.0

    @property
    def deleted_count(self) -> int:
        return self.deleted.total()

    @property
    def freed_bytes(self) -> int:
        return self.freed.total()

    def count(self, account: str, content_type: str, reason: str, size_bytes: int) -> None:
        self.deleted[content_type, reason] += 1
        self.freed[content_type, reason] += size_bytes
        self.by_tenant[account] += size_bytes


async def count(settings: Settings, s3: S3Store) -> None:
    """List the bucket and correct the accounts. Raises StorageBusy, S3Error, SinkUnavailable, and asyncpg's errors."""
    async with exclusively(settings) as connection:
        await _count(connection, settings, s3)


async def clean_up(
    settings: Settings,
    s3: S3Store,
    aim: Aim | None = None,
    *,
    dry_run: bool = False,
    limits: StorageLimits | None = None,
    wait_seconds: float = WAIT_SECONDS,
) -> Report:
    """Count, carry out decisions of an earlier run, then decide again and delete. A dry run deletes nothing.

    Raises StorageBusy if another count or clean-up has not ended after `wait_seconds`; S3Error, SinkUnavailable, and
    asyncpg's errors. Decisions made by then are carried out by the next run.
    """
    started, limits = time.monotonic(), limits or limits_of(settings)
    report = Report(aim or Aim(), dry_run)
    async with exclusively(settings, wait_seconds) as connection:
        began, report.listed = await _count(connection, settings, s3)
        await connection.execute(_RECORD_EARLIER_DELETIONS)
        await connection.execute(_DROP_DONE_RECORDS, list(KEPT_KINDS))
        if not dry_run:
            await listing.correct_media(connection, began)
            await _execute(connection, s3, report)
        planned = await _decide(connection, limits, report)
        report.emergency, report.shortfall_bytes = planned.emergency, planned.shortfall_bytes
        if not dry_run:
            await _execute(connection, s3, report)
            await connection.execute("UPDATE storage_state SET cleaned_at = now()")
    report.seconds = time.monotonic() - started
    _tell(report)
    return report


async def _count(connection: Any, settings: Settings, s3: S3Store) -> tuple[int, int]:
    began = await listing.begin(connection, settings.s3_bucket)
    listed = await listing.load(connection, s3)
    await listing.settle_accounts(connection, began)
    await listing.correct_expired(connection)
    return began, listed


async def _decide(connection: Any, limits: StorageLimits, report: Report) -> CleanupPlan:
    """Run both passes of the planner. One transaction writes all decisions, so a plan is stored whole or not at all."""
    await listing.judge(connection)
    tally = CleanupTally(limits, report.aim, time.time())
    async with connection.transaction():
        async for page in listing.objects(connection):
            for item in page:
                tally.add(item)
        planned = plan(tally)
        async for page in listing.objects(connection, by_age=True):
            decided = [deletion(item, reason) for item in page if (reason := planned.decide(item))]
            if report.dry_run:
                for one in decided:
                    report.count(one.tenant_id, one.content_type, one.reason, one.size_bytes)
            elif decided:
                await _mark_for_deletion(connection, decided)
    report.total_bytes = report.left_bytes = tally.total_bytes
    report.protected = tally.protected
    return planned


async def _mark_for_deletion(connection: Any, decided: Sequence[Deletion]) -> None:
    keys, reasons = [one.key for one in decided], [one.reason for one in decided]
    await connection.execute(_MARK_FOR_DELETION, keys, reasons)


async def _execute(connection: Any, s3: S3Store, report: Report) -> None:
    """Carry out the decisions in batches: delete the objects, then in one transaction update accounts and records."""
    while rows := await connection.fetch(_PENDING, DELETE_BATCH):
        needed = await _needed_now(connection, [row["s3_key"] for row in rows])
        batch = [row for row in rows if row["s3_key"] not in needed]
        refused = await s3.delete_unreported([row["s3_key"] for row in batch]) if batch else {}
        if refused:
            log.error(
                "objects_not_deleted",
                refused=dict(list(refused.items())[:5]),
                remedy="check the bucket's locks and permissions",
            )
        gone = [row for row in batch if row["s3_key"] not in refused]
        async with connection.transaction():
            await add(connection, _changes(gone))
            await connection.execute(_RECORD_DELETION, [row["s3_key"] for row in gone])
            await connection.execute(_DROP_RECORDS, [row["s3_key"] for row in gone], list(KEPT_KINDS))
            await connection.execute(_UNMARK, [*needed, *refused])
        report.left_bytes -= sum(row["size_bytes"] for row in gone)
        report.refused += len(refused)
        report.unmarked += len(needed)
        for row in gone:
            content_type, reason = TYPE_OF[row["kind"]], row["reason"]
            report.count(row["tenant_id"], content_type, reason, row["size_bytes"])
            _measure(row["tenant_id"], content_type, reason)


async def _needed_now(connection: Any, keys: Sequence[str]) -> set[str]:
    """Those of `keys` that a post has come to need since the decision."""
    media = {parse_key(key).subject: key for key in keys}
    shas = [subject.rpartition("/")[2].rstrip("_") for subject in media if subject]
    rows = await connection.fetch(_UNFINISHED_AMONG, list(keys), shas)
    subjects = {answers_about(row["tenant_id"], row["file_sha256"]) for row in rows}
    pictures = {row["s3_key"] for row in rows}
    return {key for key in keys if key in pictures or parse_key(key).subject in subjects}


def _changes(gone: Sequence[Any]) -> list[dict[str, Any]]:
    freed: Counter[tuple[str, str]] = Counter()
    objects: Counter[tuple[str, str]] = Counter()
    for row in gone:
        place = (row["tenant_id"], TYPE_OF[row["kind"]])
        freed[place] += row["size_bytes"]
        objects[place] += 1
    return [
        {
            "tenant_id": account,
            "content_type": kind,
            "bytes": -freed[account, kind],
            "objects": -count,
            "at": time.time(),
        }
        for (account, kind), count in objects.items()
    ]


def _measure(account: str, content_type: str, reason: Reason) -> None:
    metrics.CLEANUP_DELETED.labels(content_type=content_type, reason=reason).inc()
    if reason != "ttl":
        metrics.LRU_EVICTIONS.labels(content_type=content_type, tenant_id=tenant_label(account)).inc()


_REPORTED = {False: "storage_cleanup_done", True: "storage_cleanup_dry_run_done"}
"""`dry_run` → log event."""
_CLEANUP_TYPES = {"ttl": ("ttl",), "lru": ("type_limit", "tenant_limit"), "emergency": ("emergency",)}


def _tell(report: Report) -> None:
    if not report.dry_run:
        for cleanup_type, reasons in _CLEANUP_TYPES.items():
            freed = sum(size for (_, reason), size in report.freed.items() if reason in reasons)
            if freed:
                metrics.CLEANUP_FREED.labels(cleanup_type=cleanup_type).observe(gib(freed))
        if report.emergency:
            reason = "manual" if report.aim.trigger == "manual" else "threshold"
            metrics.EMERGENCY_CLEANUPS.labels(trigger_reason=reason).inc()
        metrics.CLEANUP_SHORTFALL.set(gib(report.shortfall_bytes))
    log.info(
        _REPORTED[report.dry_run],
        trigger=report.aim.trigger,
        listed=report.listed,
        deleted=report.deleted_count,
        freed_bytes=report.freed_bytes,
        seconds=round(report.seconds, 2),
    )
    if report.shortfall_bytes:
        log.warning(
            "bucket_above_target",
            shortfall_bytes=report.shortfall_bytes,
            protected=dict(report.protected),
            remedy="raise S3_TOTAL_LIMIT_GB, see docs/storage.md",
        )
