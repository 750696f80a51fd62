"""Builds announcements of finished posts, strictly valid under the public models of schema version 1.0."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import orjson

from vision_app.messages import Analyzed, Deferred, Failed, Medium, MediumResult, PostResult, Skipped, key_of

from .limits import LIMITS, MAX_MEDIA, MAX_TRACE_CHARS

ANALYZED_EVENT = "posts.vision.analyzed"
SKIPPED_EVENT = "posts.vision.skipped"


def announcement(result: PostResult) -> tuple[str, dict[str, Any]]:
    """The public event of a finished post: its type and its body, valid under the strict 1.0 models."""
    analyzed = [
        medium
        for medium in result.media
        if isinstance(medium.outcome, Analyzed) and medium.outcome.answer.analysis is not None
    ]
    return (ANALYZED_EVENT, _analyzed(result, analyzed)) if analyzed else (SKIPPED_EVENT, _skipped(result))


def reduced(body: Mapping[str, Any]) -> dict[str, Any]:
    """A smaller form of a public event that Kafka does not take: texts are cut, and media have only their identity.

    `reduced` names what is missing. Postgres and S3 have the whole event.
    """
    vision = body.get("vision")
    return {
        **{name: value[: LIMITS["idempotency_key"]] for name, value in body.items() if isinstance(value, str)},
        **{name: value for name, value in body.items() if isinstance(value, int | float)},
        **({"media": [_named(item) for item in body["media"]][:MAX_MEDIA]} if "media" in body else {}),
        **({"media_summary": body["media_summary"]} if "media_summary" in body else {}),
        **({"vision": _short_vision(vision)} if isinstance(vision, dict) else {}),
        **({"reasons": [_short_reason(item) for item in body["reasons"]][:MAX_MEDIA]} if "reasons" in body else {}),
        "enrichments": [_short_enrichment(item) for item in body.get("enrichments", ())][:MAX_MEDIA],
        "reduced": ["media", "vision", "reasons", "enrichments"],
    }


def _short(value: Any) -> Any:
    return value[:MAX_TRACE_CHARS] if isinstance(value, str) else value


def _named(medium: Mapping[str, Any]) -> dict[str, Any]:
    names = ("sha256", "s3_key", "mime_type", "size_bytes", "position")
    return {name: _short(medium[name]) for name in names if name in medium}


def _short_vision(vision: Mapping[str, Any]) -> dict[str, Any]:
    short = {name: _short(value) for name, value in vision.items()}
    return {**short, "ocr_text": None, "context": {}}


def _short_reason(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"media_id": _short(item["media_id"]), "reason": _short(item["reason"]), "details": {}}


def _short_enrichment(item: Mapping[str, Any]) -> dict[str, Any]:
    short = {name: _short(value) for name, value in item.items() if isinstance(value, str | bool)}
    analysis = item.get("analysis")
    if not isinstance(analysis, dict):
        return {**short, "details": {}}
    kept = ("classification", "description", "is_meme", "labels", "confidence")
    return {**short, "analysis": {name: _short(analysis.get(name)) for name in kept}}


def redis_fields(event_type: str, body: Mapping[str, Any]) -> dict[str, str]:
    """Shape A of the output stream."""
    fields = {
        "event": event_type,
        "data": json.dumps(body, ensure_ascii=False, separators=(",", ":")),
        "idempotency_key": str(body["idempotency_key"]),
    }
    return {**fields, "skipped": "true"} if event_type == SKIPPED_EVENT else fields


def _analyzed(result: PostResult, analyzed: Sequence[MediumResult]) -> dict[str, Any]:
    event, first = result.event, cast(Analyzed, analyzed[0].outcome)
    return {
        **_envelope(result, ANALYZED_EVENT),
        "idempotency_key": f"{event.tenant_id}:{event.post_id}:{analyzed[0].medium.sha256}",
        "schema_ref": "posts_vision_analyzed_v1.json",
        "media": [_media_file(medium.medium) for medium in result.media],
        "vision": vision_of(first),
        "vision_version": first.answer.vision_version,
        "features_hash": features_hash(analyzed),
        "media_summary": {
            "total": len(result.media),
            "analyzed": len(analyzed),
            "skipped": sum(isinstance(medium.outcome, Skipped | Deferred) for medium in result.media),
            "failed": sum(isinstance(medium.outcome, Failed) for medium in result.media),
        },
        "analysis_duration_ms": max(0, (result.completed_ms or result.opened_ms) - result.opened_ms),
        "enrichments": enrichments(result.media),
    }


def _skipped(result: PostResult) -> dict[str, Any]:
    event = result.event
    ids = sorted({medium.medium.sha256 for medium in result.media})
    digest = hashlib.sha256(",".join(ids).encode()).hexdigest()[:16]
    return {
        **_envelope(result, SKIPPED_EVENT),
        "idempotency_key": f"{event.tenant_id}:{event.post_id}:vision_skipped:{digest}",
        "reasons": [
            {"media_id": medium.medium.sha256, "reason": reason, "details": details}
            for medium in result.media
            for reason, details in [reason_of(medium)]
        ],
        "enrichments": enrichments(result.media),
    }


def _envelope(result: PostResult, event_type: str) -> dict[str, Any]:
    event = result.event
    occurred = datetime.fromtimestamp((result.completed_ms or result.opened_ms) / 1000, UTC)
    return {
        "event_type": event_type,
        "schema_version": "1.0",
        "producer": "vision-worker",
        "trace_id": event.trace_id,
        "occurred_at": occurred.isoformat(),
        "tenant_id": event.tenant_id,
        "post_id": event.post_id,
        "emission": str(result.emission),
    }


def _media_file(medium: Medium) -> dict[str, Any]:
    return medium.model_dump(mode="json", exclude_none=True)


def vision_of(outcome: Analyzed) -> dict[str, Any]:
    """The `vision` object of an analyzed event: the analysis of one medium in the old field names."""
    answer, analysis = outcome.answer, outcome.answer.analysis
    if analysis is None:
        raise ValueError("an analyzed medium without an analysis; send Failed instead")
    return {
        "provider": answer.provider,
        "model": answer.model,
        "schema_version": "1.0",
        "classification": {
            "type": analysis.classification,
            "confidence": analysis.confidence,
            "tags": analysis.labels,
            "tags_from_text": analysis.labels_from_text,
        },
        "description": analysis.description,
        "ocr_text": analysis.ocr.text if analysis.ocr else None,
        "is_meme": analysis.is_meme,
        "context": analysis.context,
        "tokens_used": outcome.tokens_billed,
        "file_id": None,
        "analyzed_at": answer.analyzed_at.isoformat(),
    }


def enrichments(media: Iterable[MediumResult]) -> list[dict[str, Any]]:
    """One item per listed medium: what was seen, or why nothing was."""
    return [_enrichment(medium) for medium in media]


def _enrichment(medium: MediumResult) -> dict[str, Any]:
    item: dict[str, Any] = {"sha256": medium.medium.sha256, "status": status_of(medium)}
    if isinstance(medium.outcome, Analyzed) and medium.outcome.answer.analysis:
        item["analysis"] = medium.outcome.answer.analysis.model_dump(mode="json")
        item |= {"provider": medium.outcome.answer.provider, "cached": medium.outcome.cached}
        item["simulated"] = medium.outcome.answer.simulated
    else:
        item["reason"], item["details"] = reason_of(medium)
    return item


def status_of(medium: MediumResult) -> str:
    """in_work, analyzed, partial (an analysis that had to be repaired), skipped, failed or deferred."""
    if medium.outcome is None:
        return "in_work"
    if isinstance(medium.outcome, Analyzed) and medium.outcome.answer.verdict == "partial":
        return "partial"
    return medium.outcome.kind


def reason_of(medium: MediumResult) -> tuple[str, dict[str, Any]]:
    """The reason code and details why a medium has no analysis."""
    outcome = medium.outcome
    if isinstance(outcome, Skipped | Failed):
        return outcome.reason, outcome.details
    if isinstance(outcome, Deferred):
        return outcome.reason, {**outcome.details, "deferred": True, "reset_at": outcome.retry_at.isoformat()}
    return "in_work", {}


def features_hash(analyzed: Iterable[MediumResult]) -> str:
    """sha256 over the analyses of a post's media, so that a reader can see whether anything changed.

    Fields derived from the rest of an answer are excluded: otherwise the hash could change without a new analysis.
    """
    seen = [
        (medium.medium.sha256, medium.outcome.answer.analysis.model_dump(mode="json", exclude={"labels_from_text"}))
        for medium in analyzed
        if isinstance(medium.outcome, Analyzed) and medium.outcome.answer.analysis
    ]
    return "sha256:" + hashlib.sha256(orjson.dumps(sorted(seen), option=orjson.OPT_SORT_KEYS)).hexdigest()


def entry_key(event: Mapping[str, Any]) -> bytes:
    """The Kafka key of a public event."""
    return key_of(str(event["tenant_id"]), str(event["post_id"]))
