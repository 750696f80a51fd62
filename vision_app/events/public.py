"""The announcements as readers may rely on them: models behind docs/schemas, and for reading in Python.

`announce.py` builds what these describe; tests/unit/test_schemas.py holds every kind of announcement against them.
Readers ignore fields that they do not know: later versions add some.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["in_work", "analyzed", "partial", "skipped", "failed", "deferred"]


class PublicModel(BaseModel):
    """Base of what others read. Unknown fields are kept."""

    model_config = ConfigDict(extra="allow")


class MediaFile(PublicModel):
    """A picture as the post listed it."""

    sha256: str
    s3_key: str
    mime_type: str
    size_bytes: int = Field(ge=0)


class Classification(PublicModel):
    type: str = Field(description="photo, meme, document, screenshot, infographic or other")
    confidence: float | None = None
    tags: list[str] = Field(default_factory=list)


class VisionResult(PublicModel):
    """What was seen on the first analyzed picture; `enrichments` has all."""

    provider: str = Field(description="gigachat or ocr_fallback")
    model: str
    classification: Classification
    description: str | None
    ocr_text: str | None
    is_meme: bool
    context: dict[str, Any] | None
    tokens_used: int = Field(ge=0, description="what this post was charged for it; 0 for a known picture")
    analyzed_at: datetime


class Enrichment(PublicModel):
    """One listed picture: what was seen on it, or why nothing was."""

    sha256: str
    status: Status
    analysis: dict[str, Any] | None = None
    provider: str | None = None
    cached: bool | None = None
    simulated: bool | None = Field(None, description="the built-in simulator answered, not GigaChat")
    reason: str | None = None
    details: dict[str, Any] | None = None


class Announcement(PublicModel):
    """What both announcements have. `emission` grows with every announcement of a post."""

    schema_version: Literal["1.0"]
    producer: Literal["vision-worker"]
    trace_id: str
    occurred_at: datetime
    idempotency_key: str
    tenant_id: str
    post_id: str
    emission: str
    enrichments: list[Enrichment]
    reduced: list[str] = Field(default_factory=list, description="what was cut, as the whole event was too large")


class AnalyzedEvent(Announcement):
    """At least one picture of the post was analyzed."""

    event_type: Literal["posts.vision.analyzed"]
    schema_ref: Literal["posts_vision_analyzed_v1.json"]
    media: list[MediaFile]
    vision: VisionResult
    vision_version: str
    features_hash: str
    media_summary: dict[str, int]
    analysis_duration_ms: int = Field(ge=0)


class SkipReason(PublicModel):
    media_id: str = Field(description="the picture's sha256")
    reason: str
    details: dict[str, Any]


class SkippedEvent(Announcement):
    """No picture of the post was analyzed. A deferred one (`details.deferred`) is announced again when it is."""

    event_type: Literal["posts.vision.skipped"]
    reasons: list[SkipReason]


PublicEvent = Annotated[AnalyzedEvent | SkippedEvent, Field(discriminator="event_type")]
