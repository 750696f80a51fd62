"""Decides from the accounts, without a listing, whether an object may be added.

A refusal is counted and logged, and requests a clean-up.

Producers ask before they upload (by the API), and so does `vision upload`. Paid answers are always stored; `keeper.py`
logs afterwards, with the same text, if they exceed a quota.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog

from vision_app.domain.storage import StorageLimits, refusal
from vision_app.stores.keys import account_of
from vision_app.telemetry import metrics
from vision_app.telemetry.metrics import tenant_label

from . import accounts
from .accounts import Usage
from .limits import gib

log = structlog.get_logger(__name__)

CLEANUP_PAUSE = "10 minutes"
"""No clean-up is requested sooner after the last one: what that one could not free, another cannot free yet."""

_REQUEST = f"""
UPDATE storage_state SET requested_at = now()
WHERE cleaned_at IS NULL OR cleaned_at < now() - interval '{CLEANUP_PAUSE}'"""  # noqa: S608 - made of constants only


@dataclass(frozen=True)
class QuotaVerdict:
    """`reason`: `quota_available`, `bucket_full`, `tenant_limit` or, of a type, `media_limit` and so on. Bytes."""

    allowed: bool
    reason: str
    tenant_bytes: int
    tenant_limit_bytes: int
    bucket_bytes: int


async def check(pool: Any, limits: StorageLimits, tenant_id: str, size_bytes: int, content_type: str) -> QuotaVerdict:
    """Whether a tenant may add an object; takes nothing. Raises what asyncpg raises."""
    with metrics.QUOTA_CHECK_DURATION.time():
        held = await accounts.usage_by_account(pool)
    bucket = accounts.sum_usages(held)
    own = held.get(account_of(tenant_id))
    verdict, why = judge(limits, bucket, own, size_bytes, content_type)
    if why is not None:
        exceeded(tenant_id, why, verdict, size_bytes)
    if why is not None or bucket.total_bytes > limits.emergency_bytes:
        await request_clean_up(pool)
    return verdict


def judge(
    limits: StorageLimits, bucket: Usage, own: Usage | None, size_bytes: int, content_type: str
) -> tuple[QuotaVerdict, str | None]:
    """The verdict, and the reason as the metrics name it."""
    tenant_bytes = own.total_bytes if own else 0
    of_type = bucket.size_bytes.get(content_type, 0)
    why = refusal(limits, content_type, size_bytes, bucket.total_bytes, tenant_bytes, of_type)
    reason = "quota_available" if why is None else f"{content_type}_limit" if why == "type_limit" else why
    return QuotaVerdict(why is None, reason, tenant_bytes, limits.tenant_bytes, bucket.total_bytes), why


def exceeded(tenant_id: str, why: str, verdict: QuotaVerdict, size_bytes: int) -> None:
    """Count and log that there is no room."""
    metrics.QUOTA_VIOLATIONS.labels(tenant_id=tenant_label(tenant_id), reason=why).inc()
    log.warning(
        "Quota exceeded",
        tenant_id=tenant_id,
        reason=verdict.reason,
        size_bytes=size_bytes,
        tenant_gb=round(gib(verdict.tenant_bytes), 6),
        tenant_limit_gb=gib(verdict.tenant_limit_bytes),
        bucket_gb=round(gib(verdict.bucket_bytes), 6),
    )


async def request_clean_up(pool: Any) -> None:
    """Request a clean-up by any worker, unless one was done recently."""
    await pool.execute(_REQUEST)
