"""Examples of what the API answers about health, the pipeline and storage."""

from __future__ import annotations

from typing import Any

from .posts import AT, TENANT

_KINDS = {"media": 9.5, "vision": 0.5, "crawl": 0.0, "album": 0.0, "other": 0.0}
_OLDEST: dict[str, Any] = {
    "place": "vision.analysis-2-118",
    "topic": "vision.analysis",
    "partition": 2,
    "offset": "118",
    "stage": "analysis",
    "since": AT,
    "waits_for": "gigachat",
}

SYSTEM: dict[str, dict[str, Any]] = {
    "AliveAnswer": {"status": "alive"},
    "ReadyAnswer": {
        "status": "ready",
        "reason": None,
        "waiting_for": {},
        "stalls": [],
        "oldest": [_OLDEST],
        "processes": [],
    },
    "PipelineAnswer": {
        "stages": [
            {
                "stage": "analysis",
                "per_minute": 32.0,
                "in_flight": 3,
                "waiting": 4,
                "oldest_since": AT,
                "waits_for": "gigachat",
                "stalled_since": None,
            }
        ],
        "workers": [
            {
                "worker": "http://127.0.0.1:8000",
                "answered": True,
                "ready": True,
                "reason": None,
                "waiting_for": {},
            }
        ],
        "stalls": [],
    },
    "HealthAnswer": {
        "worst": "hint",
        "checked_at": AT,
        "services": [{"service": "kafka", "state": "ok", "detail": "1 broker, 42 topics", "latency_ms": 21.4}],
        "findings": [
            {"check": "dead letters", "verdict": "hint", "detail": "1 waits for a decision; see `vision dlq ls`"}
        ],
        "alerts": [
            {
                "name": "VisionDeadLetters",
                "severity": "warning",
                "state": "firing",
                "since": AT,
                "about": ["Messages of vision.media could not be processed: Unreadable."],
                "runbook": "`vision dlq ls`, `vision dlq show ID`, then `vision dlq replay --id ID --dry-run`.",
                "expression": "sum by (base_event, error_code) (increase(events_dlq_total[15m])) > 0",
            }
        ],
    },
    "QuotaAnswer": {
        "total_gb": 10.0,
        "limit_gb": 15.0,
        "usage_percent": 66.7,
        "by_type": _KINDS,
        "emergency_threshold_gb": 14.0,
        "last_updated": AT,
    },
    "UsageAnswer": {
        "tenant_id": TENANT,
        "usage_gb": 1.2,
        "limit_gb": 2.0,
        "usage_percent": 60.0,
        "by_type": {"media": 1.1, "vision": 0.1},
        "objects": 2310,
        "last_updated": AT,
    },
    "CheckBody": {"tenant_id": TENANT, "size_bytes": 51_200, "content_type": "media"},
    "CheckAnswer": {
        "allowed": True,
        "reason": "quota_available",
        "current_usage_gb": 1.2,
        "tenant_limit_gb": 2.0,
        "bucket_usage_gb": 10.0,
    },
    "StorageStatsAnswer": {
        "current": {"total_gb": 10.0, "limit_gb": 15.0, "usage_percent": 66.7, "by_type": _KINDS},
        "limits": {
            "total_bucket_gb": 15.0,
            "emergency_threshold_gb": 14.0,
            "cleanup_target_gb": 12.0,
            "per_tenant_max_gb": 2.0,
            "media_max_gb": 10.0,
            "vision_max_gb": 2.0,
            "crawl_max_gb": 2.0,
        },
        "policies": {"media_ttl_days": 30, "vision_ttl_days": 14, "crawl_ttl_days": 7, "compression_required": False},
        "last_updated": AT,
        "largest_tenants": [{"tenant_id": TENANT, "usage_gb": 1.2, "objects": 2310}],
        "counted_at": AT,
        "cleaned_at": None,
        "cleanup_due": False,
        "drift_gb": 0.0,
    },
    "CleanupBody": {"content_type": "media", "dry_run": True},
    "CleanupAnswer": {
        "deleted_count": 120,
        "freed_gb": 0.4,
        "duration_seconds": 1.8,
        "dry_run": True,
        "freed": [{"content_type": "media", "reason": "ttl", "count": 120, "gb": 0.4}],
        "total_gb": 10.0,
        "protected_gb": {"needed": 0.1},
        "shortfall_gb": 0.0,
    },
    "CleanupRunningAnswer": {"running": True, "see": "/api/v1/storage/stats"},
}
