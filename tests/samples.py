"""Results of posts for tests: everything has a default, so that a test names only what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from vision_app.messages import (
    Analysis,
    Analyzed,
    Answer,
    Emission,
    Medium,
    MediumResult,
    Ocr,
    Outcome,
    PostResult,
    PostStatus,
    Skipped,
    Uploaded,
)

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
AT_MS = int(AT.timestamp() * 1000)

WIRE_EVENT: dict[str, Any] = {
    "event_type": "posts.vision.uploaded",
    "schema_version": "1.0",
    "trace_id": "t-1001",
    "occurred_at": "2026-11-22T12:00:00+00:00",
    "idempotency_key": "t:p-1001:vision_upload",
    "producer": "telethon-ingest",
    "tenant_id": "t",
    "post_id": "p-1001",
    "channel_id": "-100200",
    "uploaded_at": "2026-11-22T11:59:00+00:00",
    "requires_vision": True,
}
"""What a producer sends, but for its `media_files`."""


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid4().hex}"


def analysis(description: str = "Кот на окне", **fields: Any) -> Analysis:
    given = {
        "classification": "photo",
        "is_meme": True,
        "labels": ["кот", "окно"],
        "objects": ["кот"],
        "scene": "комната",
        "ocr": Ocr(text="ПРИВЕТ", engine="gigachat", confidence=0.9),
        "context": {"emotions": ["радость"]},
        "confidence": 0.8,
        **fields,
    }
    return Analysis(description=description, **given)


def analyzed(description: str = "Кот на окне", *, tokens: int = 1320, cached: bool = False, **fields: Any) -> Analyzed:
    """An analyzed medium; `fields` are those of the answer or, as `seen`, a whole analysis."""
    answer = {
        "verdict": "ok",
        "analysis": fields.pop("seen", None) or analysis(description),
        "provider": "gigachat",
        "model": "GigaChat-Pro",
        "prompt_version": "p1",
        "vision_version": "vision@2026-11-22#p1",
        "tokens": tokens,
        "analyzed_at": AT,
        "duration_ms": 900,
        **fields,
    }
    return Analyzed(
        answer=Answer(**answer),
        s3_key=f"vision/answers/{description[:8]}.json",
        cached=cached,
        tokens_billed=0 if cached else tokens,
    )


def medium(sha256: str | None = None, **fields: Any) -> Medium:
    sha256 = sha256 or uuid4().hex * 2
    given = {"s3_key": f"media/t/{sha256}.png", "mime_type": "image/png", "size_bytes": 1024, **fields}
    return Medium(sha256=sha256, **given)


def post(
    outcomes: Sequence[Outcome | None] | None = None,
    *,
    tenant: str | None = None,
    post_id: str | None = None,
    media: Sequence[Medium] | None = None,
    emission: tuple[int, int] = (AT_MS, 1),
    status: PostStatus | None = None,
    **event: Any,
) -> PostResult:
    """A post with one medium per outcome; its status follows from them unless given."""
    outcomes = [analyzed()] if outcomes is None else outcomes
    media = [medium() for _ in outcomes] if media is None else media
    tenant, post_id = tenant or unique("tenant"), post_id or unique("post")
    given = {
        "trace_id": unique("trace"),
        "occurred_at": AT,
        "idempotency_key": f"{tenant}:{post_id}:vision_upload",
        "channel_id": "-100200",
        **event,
    }
    return PostResult(
        emission=Emission(time_ms=emission[0], offset=emission[1]),
        status=status or _status(outcomes),
        event=Uploaded(tenant_id=tenant, post_id=post_id, media_files=list(media), **given),
        media=[
            MediumResult(medium=m, outcome=o, dispatch=1, times={"published": AT_MS - 900, "answered": AT_MS})
            for m, o in zip(media, outcomes, strict=True)
        ],
        opened_ms=AT_MS - 1000,
        completed_ms=None if None in outcomes else AT_MS,
        times={"completed": AT_MS},
    )


def again(
    result: PostResult, outcomes: Sequence[Outcome | None], emission: tuple[int, int], status: PostStatus | None = None
) -> PostResult:
    """The same post and media in another state."""
    event = result.event
    return post(
        outcomes,
        tenant=event.tenant_id,
        post_id=event.post_id,
        media=event.media_files,
        emission=emission,
        status=status,
        trace_id=event.trace_id,
    )


def missing() -> Skipped:
    return Skipped(reason="s3_missing", details={"s3_key": "no/such/key.jpg"})


def _status(outcomes: Sequence[Outcome | None]) -> PostStatus:
    if None in outcomes:
        return "in_work"
    kinds = {outcome.kind for outcome in outcomes if outcome}
    if "analyzed" in kinds:
        return "ok" if kinds == {"analyzed"} else "partial"
    return "error" if "failed" in kinds else "skipped"
