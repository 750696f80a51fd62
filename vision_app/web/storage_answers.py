"""The accounts as the API and the command line show them. Pure: other modules read them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from vision_app.retention.accounts import Usage, sum_usages
from vision_app.retention.limits import gib
from vision_app.settings import Settings
from vision_app.telemetry import metrics

from .storage_models import Current, Limits, Policies, Share, StorageStatsAnswer

SHOWN_TENANTS = 20


def stats_of(settings: Settings, held: Mapping[str, Usage], state: Mapping[str, Any]) -> StorageStatsAnswer:
    bucket = sum_usages(held)
    largest = sorted(held.items(), key=lambda item: (-item[1].total_bytes, item[0]))[:SHOWN_TENANTS]
    return StorageStatsAnswer(
        current=current_of(settings, bucket),
        limits=Limits(
            total_bucket_gb=settings.s3_total_limit_gb,
            emergency_threshold_gb=settings.s3_emergency_threshold_gb,
            cleanup_target_gb=settings.s3_cleanup_target_gb,
            per_tenant_max_gb=settings.s3_per_tenant_limit_gb,
            media_max_gb=settings.s3_media_max_gb,
            vision_max_gb=settings.s3_vision_max_gb,
            crawl_max_gb=settings.s3_crawl_max_gb,
        ),
        policies=Policies(
            media_ttl_days=settings.s3_media_ttl_days,
            vision_ttl_days=settings.s3_vision_ttl_days,
            crawl_ttl_days=settings.s3_crawl_ttl_days,
            compression_required=False,
        ),
        last_updated=bucket.updated_at or _counted(state),
        largest_tenants=[
            Share(tenant_id=tenant, usage_gb=gib(own.total_bytes), objects=own.total_objects) for tenant, own in largest
        ],
        counted_at=_counted(state),
        cleaned_at=state["cleaned_at"],
        cleanup_due=bool(state["pending"] or state["requested_at"]),
        drift_gb=gib(state["drift_bytes"]),
    )


def _counted(state: Mapping[str, Any]) -> datetime | None:
    at: datetime | None = state["counted_at"]
    return at


def current_of(settings: Settings, bucket: Usage) -> Current:
    total, limit = gib(bucket.total_bytes), settings.s3_total_limit_gb
    return Current(total_gb=total, limit_gb=limit, usage_percent=round(100 * total / limit, 2), by_type=by_type(bucket))


def by_type(usage: Usage | None) -> dict[str, float]:
    sizes = usage.size_bytes if usage else {}
    return {content_type: gib(sizes.get(content_type, 0)) for content_type in metrics.CONTENT_TYPES}
