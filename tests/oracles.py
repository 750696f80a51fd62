"""The strict "1.0" models of the assistant's consumers, written from the contract and not from our code.

A consumer parses with these; what they refuse never reaches it. Unknown fields are ignored, as the consumers do.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _BaseEvent(_Strict):
    trace_id: str
    occurred_at: datetime
    idempotency_key: str


class MediaFile(_Strict):
    sha256: str
    s3_key: str
    mime_type: str
    size_bytes: int = Field(ge=0)


class Classification(_Strict):
    type: Literal["photo", "meme", "document", "screenshot", "infographic", "other"]
    confidence: float | None
    tags: list[str]


class VisionAnalysisResult(_Strict):
    provider: str
    model: str
    schema_version: str = "1.0"
    classification: dict[str, Any]
    description: str | None = None
    ocr_text: str | None = None
    is_meme: bool = False
    context: dict[str, Any] | None = None
    tokens_used: int = Field(ge=0)
    file_id: str | None = None
    analyzed_at: datetime


class VisionAnalyzedEventV1(_BaseEvent):
    event_type: Literal["posts.vision.analyzed"]
    schema_version: Literal["1.0"]
    schema_ref: Literal["posts_vision_analyzed_v1.json"]
    producer: Literal["vision-worker"]
    tenant_id: str
    post_id: str
    media: list[MediaFile]
    vision: VisionAnalysisResult
    vision_version: str | None = Field(pattern=r"^vision@\d{4}-\d{2}-\d{2}#p\d+$")
    features_hash: str | None = Field(pattern=r"^sha256:[0-9a-f]{64}$")
    media_summary: dict[str, Any] | None = None
    analysis_duration_ms: int = Field(ge=0)


class SkipReason(_Strict):
    media_id: str
    reason: str
    details: dict[str, Any]


class VisionSkippedEventV1(_BaseEvent):
    event_type: Literal["posts.vision.skipped"]
    schema_version: Literal["1.0"]
    producer: Literal["vision-worker"]
    tenant_id: str
    post_id: str
    reasons: list[SkipReason]
    idempotency_key: str = Field(pattern=r"^.+:.+:vision_skipped:[0-9a-f]{16}$")
