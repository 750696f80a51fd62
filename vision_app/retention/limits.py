"""The settings' quotas in the planner's units. GB in names of settings, fields and metrics is GiB (1024^3 bytes)."""

from __future__ import annotations

from vision_app.domain.storage import DAY, StorageLimits
from vision_app.settings import Settings

GIB = 1024**3


def limits_of(settings: Settings) -> StorageLimits:
    """Sizes in bytes, times in seconds.

    A record of a paid call is kept as long as Kafka may redeliver its grant. Without the record the call would be
    repeated.
    """
    return StorageLimits(
        total_bytes=_bytes(settings.s3_total_limit_gb),
        emergency_bytes=_bytes(settings.s3_emergency_threshold_gb),
        target_bytes=_bytes(settings.s3_cleanup_target_gb),
        tenant_bytes=_bytes(settings.s3_per_tenant_limit_gb),
        type_bytes={
            "media": _bytes(settings.s3_media_max_gb),
            "vision": _bytes(settings.s3_vision_max_gb),
            "crawl": _bytes(settings.s3_crawl_max_gb),
        },
        ttl={
            "media": settings.s3_media_ttl_days * DAY,
            "vision": settings.s3_vision_ttl_days * DAY,
            "crawl": settings.s3_crawl_ttl_days * DAY,
        },
        emergency_age={
            "vision": settings.s3_emergency_vision_days * DAY,
            "crawl": settings.s3_emergency_crawl_days * DAY,
        },
        upload_grace=settings.s3_upload_grace_hours * 3600,
        call_record_age=settings.kafka_retention_days * DAY,
    )


def gib(size_bytes: float) -> float:
    """Bytes as GiB."""
    return size_bytes / GIB


def _bytes(size_gib: float) -> int:
    return round(size_gib * GIB)
