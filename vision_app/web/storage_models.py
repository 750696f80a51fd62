"""What the pages about storage take and answer. "GB" in names is GiB (1024^3 bytes), as everywhere in the assistant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from .models import Answer, Id

Gigabytes = Annotated[float, Field(ge=0)]
LimitedType = Literal["media", "vision", "crawl"]
MAX_SIZE_BYTES = 2**50


class UsagePath(BaseModel):
    tenant_id: Id


class QuotaAnswer(Answer):
    """What the bucket holds and may hold; nulls in `last_updated` if it was never counted."""

    total_gb: Gigabytes
    limit_gb: Gigabytes
    usage_percent: float = Field(ge=0)
    by_type: dict[str, float] = Field(description="GB by media, vision, crawl, album and other")
    emergency_threshold_gb: Gigabytes
    last_updated: datetime | None


class UsageAnswer(Answer):
    """What one tenant holds; an unknown tenant holds nothing."""

    tenant_id: str
    usage_gb: Gigabytes
    limit_gb: Gigabytes
    usage_percent: float = Field(ge=0)
    by_type: dict[str, float]
    objects: int = Field(ge=0)
    last_updated: datetime | None


class CheckBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tenant_id: Id
    size_bytes: int = Field(gt=0, le=MAX_SIZE_BYTES)
    content_type: LimitedType


class CheckAnswer(Answer):
    """Whether an object of this size may be uploaded; nothing is reserved."""

    allowed: bool
    reason: str = Field(
        description="quota_available, bucket_full, tenant_limit, media_limit, vision_limit or crawl_limit"
    )
    current_usage_gb: Gigabytes = Field(description="what the tenant holds")
    tenant_limit_gb: Gigabytes
    bucket_usage_gb: float | None = Field(description="null for a tenant's own token")


class CleanupBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    target_free_gb: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="how much of the limit is to be free; by default the target of the settings",
    )
    content_type: LimitedType | None = Field(None, description="delete nothing of another type")
    dry_run: bool = Field(False, description="say what would go; delete nothing")


class CleanupQuery(BaseModel):
    dry_run: bool | None = Field(None, description="the same as in the body, for callers without one")


class Freed(BaseModel):
    content_type: str
    reason: str = Field(description="ttl, type_limit, tenant_limit or emergency")
    count: int
    gb: Gigabytes


class CleanupAnswer(Answer):
    """What was deleted or, in a dry run, would be."""

    deleted_count: int = Field(ge=0)
    freed_gb: Gigabytes
    duration_seconds: float = Field(ge=0)
    dry_run: bool
    freed: list[Freed]
    total_gb: Gigabytes = Field(description="what the bucket holds now")
    protected_gb: dict[str, float] = Field(
        description="what may not go, by why: needed by a post, awaited (uploaded, not yet listed by a post), "
        "call_record, foreign"
    )
    shortfall_gb: Gigabytes = Field(description="by how much the target is missed: the rest is protected")


class CleanupRunningAnswer(Answer):
    """The clean-up takes longer than a request may and goes on. `see` says where its effect is shown."""

    running: Literal[True] = True
    see: str


class Limits(BaseModel):
    total_bucket_gb: float
    emergency_threshold_gb: float
    cleanup_target_gb: float
    per_tenant_max_gb: float
    media_max_gb: float
    vision_max_gb: float
    crawl_max_gb: float


class Policies(BaseModel):
    media_ttl_days: float
    vision_ttl_days: float
    crawl_ttl_days: float
    compression_required: bool


class Current(BaseModel):
    total_gb: Gigabytes
    limit_gb: Gigabytes
    usage_percent: float
    by_type: dict[str, float]


class Share(BaseModel):
    tenant_id: str
    usage_gb: Gigabytes
    objects: int


class StorageStatsAnswer(Answer):
    """Usage, limits and rules; the tenants that hold most; when the bucket was counted and cleaned up."""

    current: Current
    limits: Limits
    policies: Policies
    last_updated: datetime | None
    largest_tenants: list[Share]
    counted_at: datetime | None
    cleaned_at: datetime | None
    cleanup_due: bool = Field(description="asked for, or broken off and about to go on")
    drift_gb: Gigabytes = Field(description="what the last count corrected")
