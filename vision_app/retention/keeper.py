"""The storage tasks that every worker runs in the background. One worker at a time does the heavy part.

Every few seconds each worker writes its own changes to the accounts, sets the metrics, and logs if its writes exceeded
a quota. A worker that finds a listing or a clean-up due, and gets the lock, runs it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Literal

import structlog
from mode import Service

from vision_app.domain.storage import Aim
from vision_app.settings import Settings
from vision_app.stores.base import SinkUnavailable
from vision_app.stores.postgres import STORE_FAULTS, create_pool
from vision_app.stores.s3 import S3Error, S3Store
from vision_app.telemetry import metrics

from . import accounts, cleanup
from .accounts import Accounts, Usage
from .cleanup import Report
from .limits import gib, limits_of
from .lock import StorageBusy
from .quota import QuotaVerdict, check, exceeded, judge, request_clean_up

log = structlog.get_logger(__name__)

AWAY = (SinkUnavailable, S3Error, *STORE_FAULTS)
SHOW_SECONDS = 5.0
LOOK_SECONDS = 5.0
RETRY_SECONDS = 60.0
TELL_AGAIN_SECONDS = 60.0
LAST_WRITE_SECONDS = 5.0
POOL_SIZE = 2
_FAILED = {"show": "storage_accounts_not_saved", "look": "storage_check_failed"}
"""Task → log event of its failure."""

Due = Literal["nothing", "count", "clean"]

_STATE = """
SELECT bucket, counted_at, cleaned_at, requested_at, drift_bytes, now() AS now,
    EXISTS (SELECT FROM expired_objects WHERE expired_at IS NULL) AS pending FROM storage_state"""
_FULFILLED = "UPDATE storage_state SET requested_at = NULL WHERE requested_at = $1"
"""Not a request that was made during the run: the listing may have passed what it was made for."""


class StorageKeeper(Service):
    """Records the changes of the worker's S3 client from its creation on."""

    def __init__(self, settings: Settings, s3: S3Store, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._settings, self._s3, self._changes = settings, s3, Accounts()
        s3.add_observer(self._changes.note_change)
        self._limits = limits_of(settings)
        self._pool: Any = None
        self._told: dict[tuple[str, str], float] = {}
        self._shown: set[tuple[str, str]] = set()
        self._asked: set[asyncio.Task[Report]] = set()

    async def on_stop(self) -> None:
        """Write the remaining changes. If Postgres is away, the next listing finds them."""
        for task in self._asked:
            task.cancel()
        if self._pool is None:
            return
        try:
            async with asyncio.timeout(LAST_WRITE_SECONDS):
                await self._changes.flush(self._pool)
        except AWAY as fault:
            log.warning("storage_accounts_not_flushed", error=repr(fault))
        self._pool.terminate()

    @Service.task
    async def _show_for_ever(self) -> None:
        self._show_limits()
        while not self.should_stop:
            await self._guarded(self.show, "show")
            await self.sleep(SHOW_SECONDS)

    @Service.task
    async def _look_for_ever(self) -> None:
        while not self.should_stop:
            done = await self._guarded(self.look, "look")
            if not done:
                metrics.CLEANUP_FAILURES.inc()
            await self.sleep(LOOK_SECONDS if done else RETRY_SECONDS)

    async def _guarded(self, work: Any, turn: str) -> bool:
        try:
            await work()
        except AWAY as fault:
            metrics.RETRIES.labels(stage="storage").inc()
            log.warning(_FAILED[turn], error=repr(fault))
            return False
        except Exception:
            metrics.UNEXPECTED_ERRORS.labels(where="storage").inc()
            log.exception(_FAILED[turn])
            return False
        return True

    async def pool(self) -> Any:
        """The keeper's connections. Raises SinkUnavailable while Postgres is away."""
        if self._pool is None:
            self._pool = await create_pool(self._settings, size=POOL_SIZE, application="vision-storage")
        return self._pool

    def give_up(self) -> None:
        """Cut the connections, since Postgres does not answer. The next use connects anew."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    # -- every worker

    async def show(self) -> None:
        """Write this worker's changes, set the metrics from the accounts, and log quotas that the worker exceeded."""
        pool = await self.pool()
        grown = await self._changes.flush(pool)
        held = await accounts.usage_by_account(pool)
        self._shown = show_usage(held, self._shown)
        state = await pool.fetchrow(_STATE)
        if state["counted_at"] is not None:
            metrics.STORAGE_COUNTED_AT.set(state["counted_at"].timestamp())
        metrics.STORAGE_DRIFT.set(gib(state["drift_bytes"]))
        if grown and self._violations(grown, held):
            await request_clean_up(pool)

    def _show_limits(self) -> None:
        limits = self._limits
        for content_type, size in {"total": limits.total_bytes, **limits.type_bytes}.items():
            metrics.BUCKET_LIMIT.labels(content_type=content_type).set(gib(size))

    def _violations(self, grown: Mapping[tuple[str, str], int], held: Mapping[str, Usage]) -> bool:
        """Whether anything that this worker added exceeds a quota. It stays stored, because it was paid for."""
        bucket, found = accounts.sum_usages(held), False
        for account, content_type in grown:
            own = held.get(account)
            verdict, why = judge(self._limits, bucket, own, 0, content_type)
            if why is None:
                continue
            found = True
            if time.monotonic() - self._told.get((account, why), float("-inf")) > TELL_AGAIN_SECONDS:
                self._told[account, why] = time.monotonic()
                exceeded(account, why, verdict, 0)
        return found

    # -- for the API

    async def held(self) -> dict[str, Usage]:
        """The usage of every account. Raises one of AWAY."""
        return await accounts.usage_by_account(await self.pool())

    async def status(self) -> Mapping[str, Any]:
        """When the bucket was last counted and cleaned up (`counted_at`, `cleaned_at`), and whether it is due."""
        return dict(await (await self.pool()).fetchrow(_STATE))

    async def check(self, tenant_id: str, size_bytes: int, content_type: str) -> QuotaVerdict:
        """See `quota.check`. Raises one of AWAY."""
        return await check(await self.pool(), self._limits, tenant_id, size_bytes, content_type)

    def start_clean_up(self, aim: Aim, *, dry_run: bool) -> asyncio.Task[Report]:
        """Clean up in the background; the caller need not wait. The task raises StorageBusy or one of AWAY."""
        task = asyncio.create_task(self._clean_up(aim, dry_run))
        self._asked.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _clean_up(self, aim: Aim, dry_run: bool) -> Report:
        report = await cleanup.clean_up(self._settings, self._s3, aim, dry_run=dry_run, limits=self._limits)
        await self.show()
        return report

    def _ended(self, task: asyncio.Task[Report]) -> None:
        self._asked.discard(task)
        if not task.cancelled() and isinstance(fault := task.exception(), Exception):
            if not isinstance(fault, StorageBusy):
                metrics.CLEANUP_FAILURES.inc()
            log.warning("requested_cleanup_failed", error=repr(fault))

    # -- one worker at a time

    async def look(self) -> None:
        """Do what is due. If another worker is doing it, that is no failure."""
        pool = await self.pool()
        state = await pool.fetchrow(_STATE)
        due = self._due(state)
        try:
            if due == "count":
                await cleanup.count(self._settings, self._s3)
                if (
                    accounts.sum_usages(await accounts.usage_by_account(pool)).total_bytes
                    > self._limits.emergency_bytes
                ):
                    due = "clean"
            if due == "clean":
                await cleanup.clean_up(self._settings, self._s3, Aim("schedule"), limits=self._limits)
                await pool.execute(_FULFILLED, state["requested_at"])
        except StorageBusy:
            log.debug("storage_busy")

    def _due(self, state: Any) -> Due:
        if state["pending"] or state["requested_at"] is not None or state["bucket"] != self._settings.s3_bucket:
            return "clean"
        if _older(state["cleaned_at"], state["now"], self._settings.s3_cleanup_interval_hours * 3600):
            return "clean"
        return (
            "count"
            if _older(state["counted_at"], state["now"], self._settings.s3_recount_interval_minutes * 60)
            else "nothing"
        )


def _older(at: datetime | None, now: datetime, seconds: float) -> bool:
    return at is None or (now - at).total_seconds() >= seconds


def show_usage(held: Mapping[str, Usage], shown: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Set the gauges from the accounts. Tenants without a label of their own are added up.

    Takes and returns the shown tenants and types, so that those that hold nothing any more are removed.
    """
    bucket = accounts.sum_usages(held)
    for content_type in metrics.CONTENT_TYPES:
        metrics.BUCKET_USAGE.labels(content_type=content_type).set(gib(bucket.size_bytes.get(content_type, 0)))
    sizes: Counter[tuple[str, str]] = Counter()
    for account, own in held.items():
        for content_type, size in own.size_bytes.items():
            sizes[metrics.tenant_label(account), content_type] += size
    metrics.show_storage({place: gib(size) for place, size in sizes.items()}, shown)
    return set(sizes)
