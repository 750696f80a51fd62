"""Turns a post's result into rows of Postgres. Pure, no I/O. `COLUMNS` has the column types; `data` is described here.

The top level of `data` has the fields that older readers of the assistant know, from the first analyzed medium. `media`
and `enrichments` in it have everything of every listed medium.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from vision_app import events
from vision_app.messages import Analyzed, Charged, Failed, MediumResult, PostResult, Skipped

from .ordering import ObservedMedium, seen
from .text import storable

MAX_OCR_CHARS = 100_000
MAX_INTEGER = 2**31 - 1
MAX_BIGINT = 2**63 - 1
NO_DESCRIPTION = "Описание отсутствует"

COLUMNS = {
    "tenant_id": "text",
    "post_id": "text",
    "kind": "text",
    "provider": "text",
    "params_hash": "text",
    "data": "jsonb",
    "status": "text",
    "error": "text",
    "metadata": "jsonb",
    "album_size": "integer",
    "vision_labels_agg": "jsonb",
    "ocr_present": "boolean",
    "summary": "text",
    "vision_analyzed_at": "timestamptz",
    "vision_provider": "text",
    "vision_model": "text",
    "vision_is_meme": "boolean",
    "vision_classification": "jsonb",
    "vision_description": "text",
    "vision_ocr_text": "text",
    "vision_context": "jsonb",
    "vision_file_id": "text",
    "vision_tokens_used": "bigint",
    "vision_cost_microunits": "bigint",
    "vision_analysis_reason": "text",
    "s3_vision_keys": "jsonb",
    "s3_media_keys": "jsonb",
    "s3_crawl_keys": "jsonb",
    "vision_version": "text",
    "features_hash": "text",
    "trace_id": "text",
    "emission_time_ms": "bigint",
    "emission_offset": "bigint",
    "in_work_since": "timestamptz",
}
"""Columns of post_enrichment that a result fills, with their types."""

_KEYS = frozenset({"tenant_id", "post_id", "kind", "provider", "status", "emission_time_ms", "emission_offset"})
"""Columns that every row needs."""
_NO_LIST = frozenset({"s3_vision_keys", "s3_media_keys", "s3_crawl_keys"})

PARTS = (
    "media",
    "data",
    *(name for name in COLUMNS if name not in _KEYS and name != "data"),
    *("media.uploaded_at", "media.mime", "media.s3_key", "media.size_bytes"),
    *("data.event", "data.media", "data.enrichments"),
)
"""Parts of a post's rows that can be emptied, a whole before its parts; `media` means the rows of its media."""
MAX_REASON_CHARS = 500

_ROLES = frozenset({"primary", "attachment", "thumbnail"})


def enrichment_row(result: PostResult) -> dict[str, Any]:
    """The row of post_enrichment, ready for JSON."""
    found = seen(result)
    event, waiting = result.event, result.status == "in_work"
    return {
        "tenant_id": event.tenant_id,
        "post_id": event.post_id,
        "kind": "vision",
        "data": data_of(result, found),
        "status": result.status,
        "error": _error(result.media) if result.status in ("error", "partial") else None,
        "metadata": {"trace_id": event.trace_id, "channel_id": event.channel_id},
        "album_size": len(result.media),
        "vision_tokens_used": sum(_billed(medium) for medium in _distinct(result.media)),
        "s3_media_keys": _unique(medium.medium.s3_key for medium in result.media),
        "s3_crawl_keys": [],
        "trace_id": event.trace_id,
        "emission_time_ms": result.emission.time_ms,
        "emission_offset": result.emission.offset,
        "in_work_since": _iso(result.emission.time_ms) if waiting else None,
        **(_vision_columns(found) if found else _no_vision_columns(waiting)),
    }


def reduced_row(result: PostResult, row: dict[str, Any], emptied: Collection[str], reason: str) -> dict[str, Any]:
    """The row with these parts emptied. `data.reduced` names them and the reason."""
    row = dict(row)
    for name in emptied:
        if name in COLUMNS and name != "data":
            row[name] = _emptied(result, name)
    data = (
        {} if "data" in emptied else {name: item for name, item in row["data"].items() if f"data.{name}" not in emptied}
    )
    return {**row, "data": {**data, "reduced": {"fields": list(emptied), "reason": reason[:MAX_REASON_CHARS]}}}


def bare_row(result: PostResult, reason: str) -> dict[str, Any]:
    """The smallest row of a result: only which post it is, how it ended and when."""
    analyzed = [medium.outcome for medium in result.media if isinstance(medium.outcome, Analyzed)]
    row = {
        "tenant_id": result.event.tenant_id,
        "post_id": result.event.post_id,
        "kind": "vision",
        "provider": analyzed[0].answer.provider if analyzed else "none",
        "status": result.status,
        "emission_time_ms": result.emission.time_ms,
        "emission_offset": result.emission.offset,
        "data": {},
    }
    return reduced_row(result, row, PARTS, reason)


def _emptied(result: PostResult, column: str) -> Any:
    """The value of a column whose own value Postgres refuses. Values on which other statements rely stay correct."""
    match column:
        case "vision_analyzed_at":
            return _iso(result.emission.time_ms) if seen(result) else None
        case "in_work_since":
            return _iso(result.emission.time_ms) if result.status == "in_work" else None
        case "vision_tokens_used":
            return min(sum(_billed(medium) for medium in _distinct(result.media)), MAX_BIGINT)
        case "ocr_present":
            return False
        case "album_size":
            return min(len(result.media), MAX_INTEGER)
    return [] if column in _NO_LIST else None


def reduced_media(rows: Sequence[dict[str, Any]], emptied: Collection[str]) -> list[dict[str, Any]]:
    """The rows of the media with these parts emptied."""
    if "media" in emptied:
        return []
    nothing = {"media.mime": ("mime", ""), "media.s3_key": ("s3_key", ""), "media.size_bytes": ("size_bytes", 0)}
    changes = dict(change for name, change in nothing.items() if name in emptied)
    late = "media.uploaded_at" in emptied
    return [{**row, **changes, "uploaded_at": row["seen_at" if late else "uploaded_at"]} for row in rows]


def _vision_columns(found: Sequence[ObservedMedium]) -> dict[str, Any]:
    first = found[0]
    answer, analysis = first.outcome.answer, first.analysis
    return {
        "provider": answer.provider,
        "params_hash": _params_hash(found),
        "vision_labels_agg": sorted({label for item in found for label in item.analysis.labels}),
        "ocr_present": any(item.analysis.ocr and item.analysis.ocr.text.strip() for item in found),
        "summary": "\n".join(_unique(item.analysis.description for item in found)),
        "vision_analyzed_at": answer.analyzed_at.isoformat(),
        "vision_provider": answer.provider,
        "vision_model": answer.model,
        "vision_is_meme": analysis.is_meme,
        "vision_classification": events.vision_of(first.outcome)["classification"],
        "vision_description": analysis.description,
        "vision_ocr_text": analysis.ocr.text[:MAX_OCR_CHARS] if analysis.ocr else None,
        "vision_context": analysis.context,
        "vision_analysis_reason": _reason(found),
        "s3_vision_keys": _unique(item.outcome.s3_key for item in found),
        "vision_version": answer.vision_version,
        "features_hash": events.features_hash(item.medium for item in found),
    }


def _no_vision_columns(waiting: bool) -> dict[str, Any]:
    return {
        "provider": "none",
        "ocr_present": False,
        "vision_provider": "none",
        "vision_is_meme": False,
        "vision_analysis_reason": None if waiting else "skipped",
        "s3_vision_keys": [],
    }


def data_of(result: PostResult, found: Sequence[ObservedMedium]) -> dict[str, Any]:
    """The JSON document of the column `data`."""
    event = result.event
    return {
        **(_legacy_data(found) if found else {}),
        "trace_id": event.trace_id,
        "simulated": any(item.outcome.answer.simulated for item in found),
        "enrichments": events.enrichments(result.media),
        "media": _media_items(result.media),
        "times": {"opened": result.opened_ms, "completed": result.completed_ms, **result.times},
        "event": event.model_dump(mode="json", exclude={"media_files"}, exclude_none=True),
    }


def _legacy_data(found: Sequence[ObservedMedium]) -> dict[str, Any]:
    """The fields that readers of the older pipeline expect, from the first analyzed medium."""
    first = found[0]
    answer, analysis = first.outcome.answer, first.analysis
    return {
        "model": answer.model,
        "model_version": None,
        "provider": answer.provider,
        "analyzed_at": answer.analyzed_at.isoformat(),
        **analysis.model_dump(mode="json"),
        "description": analysis.description or NO_DESCRIPTION,
        "s3_keys": {"image": first.medium.medium.s3_key},
        "file_id": None,
        "tokens_used": first.outcome.tokens_billed,
        "cost_microunits": None,
        "analysis_reason": _reason(found),
        "s3_keys_list": [
            {
                "sha256": item.medium.medium.sha256,
                "s3_key": item.medium.medium.s3_key,
                "analyzed_at": item.outcome.answer.analyzed_at.isoformat(),
            }
            for item in found
        ],
        "vision_version": answer.vision_version,
        "features_hash": events.features_hash(item.medium for item in found),
    }


def _media_items(media: Sequence[MediumResult]) -> list[dict[str, Any]]:
    """One item per listed medium. Twins share one call, so only the first shows what it cost."""
    firsts = {id(medium) for medium in _distinct(media)}
    return [_media_item(medium, _billed(medium) if id(medium) in firsts else 0) for medium in media]


def _media_item(medium: MediumResult, billed: int) -> dict[str, Any]:
    item = {
        **medium.medium.model_dump(mode="json", exclude_none=True),
        "status": events.status_of(medium),
        "dispatch": medium.dispatch,
        "tokens_billed": billed,
        "times": dict(medium.times),
    }
    if medium.outcome is not None and medium.outcome.kind == "analyzed":
        answer = medium.outcome.answer
        return item | {
            "cached": medium.outcome.cached,
            "answer_s3_key": medium.outcome.s3_key,
            "provider": answer.provider,
            "model": answer.model,
            "tokens": answer.tokens,  # what the answer cost when it was made, also if this post had it for nothing
            "verdict": answer.verdict,
            "duration_ms": answer.duration_ms,
            "analyzed_at": answer.analyzed_at.isoformat(),
        }
    item["reason"], item["details"] = events.reason_of(medium)
    if isinstance(medium.outcome, Failed) and medium.outcome.dead_letter_id:
        item["dead_letter_id"] = medium.outcome.dead_letter_id
    return item


def charge_rows(charges: Iterable[Charged]) -> list[dict[str, Any]]:
    """The rows of token_charges, each grant once: a record may be delivered again, and a grant charged in two parts."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for charge in sorted(charges, key=lambda one: one.at_ms):
        named = {"tenant_id": charge.tenant_id, "ledger": charge.ledger, "grant_id": charge.grant_id}
        named = storable(named)  # also as the key: two texts may become one
        key = (named["tenant_id"], named["ledger"], named["grant_id"])
        before = rows.get(key)
        row = {
            **named,
            "at_ms": before["at_ms"] if before else storable(charge.at_ms),
            "tokens": max(storable(charge.tokens), before["tokens"] if before else 0),
            "cut_off": charge.cut_off or bool(before and before["cut_off"]),
            "post_id": storable(charge.post_id),
            "file_sha256": storable(charge.sha256),
            "prompt": storable(charge.prompt_key),
        }
        rows[key] = {name: value if value is not None else (before or {}).get(name) for name, value in row.items()}
    return list(rows.values())


def media_rows(result: PostResult, bucket: str) -> list[dict[str, Any]]:
    """The rows for both media_objects and post_media_map: a post's media, each once, at its first position."""
    firsts = {id(medium) for medium in _distinct(result.media)}
    return [
        {
            "tenant_id": result.event.tenant_id,
            "post_id": result.event.post_id,
            "file_sha256": medium.medium.sha256,
            "mime": medium.medium.mime_type,
            "size_bytes": storable(medium.medium.size_bytes),
            "s3_key": medium.medium.s3_key,
            "s3_bucket": bucket,
            "seen_at": _iso(result.opened_ms),
            "uploaded_at": (result.event.uploaded_at or result.event.occurred_at).isoformat(),
            "position": _position(medium, index),
            "role": _role(medium, index),
        }
        for index, medium in enumerate(result.media)
        if id(medium) in firsts
    ]


def _position(medium: MediumResult, index: int) -> int:
    given = medium.medium.position
    return given if given is not None and 0 <= given <= MAX_INTEGER else index


def _role(medium: MediumResult, index: int) -> str:
    given = medium.medium.role
    return given if given in _ROLES else "attachment" if index else "primary"


def _distinct(media: Iterable[MediumResult]) -> list[MediumResult]:
    """Each picture once; of twins the first one."""
    firsts: dict[str, MediumResult] = {}
    for medium in media:
        firsts.setdefault(medium.medium.sha256, medium)
    return list(firsts.values())


def _billed(medium: MediumResult) -> int:
    """Tokens that this post was charged for the medium. A refusal or an unusable answer may cost tokens, too."""
    outcome = medium.outcome
    if outcome is None:
        return 0
    if outcome.kind == "analyzed":
        return outcome.tokens_billed
    billed = outcome.details.get("tokens_billed")
    return billed if isinstance(billed, int) and billed > 0 else 0


def _reason(found: Sequence[ObservedMedium]) -> str:
    if found[0].outcome.answer.provider == "ocr_fallback":
        return "fallback"
    return "cache_hit" if all(item.outcome.cached for item in found) else "new"


def _error(media: Sequence[MediumResult]) -> str | None:
    reasons = [
        f"{medium.medium.sha256[:12]}: {medium.outcome.reason}"
        for medium in media
        if isinstance(medium.outcome, Failed | Skipped)
    ]
    return "; ".join(reasons) or None


def _params_hash(found: Sequence[ObservedMedium]) -> str:
    """sha256 of model, version and inputs. It is equal if a row was made by the same model from the same media."""
    answer = found[0].outcome.answer
    inputs = orjson.dumps(sorted({item.medium.medium.sha256 for item in found})).decode()
    return hashlib.sha256(f"{answer.model}|{answer.vision_version}|{inputs}".encode()).hexdigest()


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(text for text in texts if text))


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat()
