"""The Redis wire contract: a tolerant reader of uploaded posts, strict writers of announcements.

Four shapes of an entry are read (fields `event`+`data`, `data` alone, `payload` instead of `data`, one field per key),
schema versions v1, 1, 1.0 or none. An entry is refused only if tenant, post or media identity is missing, or if a field
that is copied out of the event is longer than `LIMITS` allow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
from pydantic import ValidationError

from .messages import Analyzed, Deferred, Failed, Medium, MediumResult, PostResult, Skipped, Uploaded, key_of

UPLOADED_EVENT = "posts.vision.uploaded"
ANALYZED_EVENT = "posts.vision.analyzed"
SKIPPED_EVENT = "posts.vision.skipped"
SCHEMA_VERSIONS = frozenset({"v1", "1", "1.0"})

_TEXTS = frozenset({"tenant_id", "post_id", "trace_id", "idempotency_key", "channel_id"})
"""Fields that stay unchanged even if they look like JSON."""
MAX_TRACE_CHARS = 512
MAX_MEDIA = 100
"""Most media of one event; an album of Telegram has ten."""
LIMITS = {
    "tenant_id": 256,
    "post_id": 256,
    "trace_id": MAX_TRACE_CHARS,
    "idempotency_key": 1024,
    "channel_id": 256,
    "source_stream": 256,
    "source_entry_id": 256,
}
"""Most characters of an event's fields that become keys, headers, log fields or indexed columns."""
MEDIUM_LIMITS = {
    "sha256": 128,
    "s3_key": 2048,
    "mime_type": 256,
    "telegram_file_id": 512,
    "role": 64,
}
"""The same for each medium. S3 takes keys of 1,024 bytes. A longer key within this limit is skipped as missing."""
MAX_OFFSET = timedelta(hours=15, minutes=59)
"""Largest offset of a time from UTC. Python accepts up to a day, Postgres only this."""
MAX_TOLD_CHARS = 100
MAX_DEPTH = 64
"""Most levels of lists and objects. Not all later JSON encoders can write deeper ones."""
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


class Unreadable(ValueError):
    """The entry names no tenant, post or media. Correct the producer; the entry is kept whole in the dead letters."""


# --- reading ----------------------------------------------------------------------------------------------------------


def read_entry(fields: Mapping[Any, Any], *, default_tenant: str, entry_id: str | None = None) -> Uploaded:
    """Read one entry of an input stream in any of the four shapes. Raises Unreadable."""
    flat = {_text(name): _text(value) for name, value in fields.items()}
    body = flat.get("data") or flat.get("payload")
    if body is None:
        flat.setdefault("event_type", flat.get("event", ""))
        return read_event(flat, default_tenant=default_tenant, entry_id=entry_id)
    event = _json(body)
    if not isinstance(event, dict):
        raise Unreadable(f"the field data holds {type(event).__name__}, not a JSON object")
    event.setdefault("event_type", flat.get("event"))
    return read_event(event, default_tenant=default_tenant, entry_id=entry_id)


def entry_value(fields: Mapping[bytes, bytes]) -> bytes:
    """An entry as one JSON object, without loss. Bytes that are not UTF-8 become escapes that represent only them."""
    try:
        return orjson.dumps({name.decode(): value.decode() for name, value in fields.items()})
    except UnicodeDecodeError:
        named = {_escaped(name): _escaped(value) for name, value in fields.items()}
        return json.dumps(named).encode()


def entry_fields(value: bytes) -> dict[str | bytes, str | bytes]:
    """The fields that `entry_value` has written; those that are not UTF-8 as bytes. Raises ValueError."""
    return {_unescaped(str(name)): _unescaped(str(text)) for name, text in json.loads(value).items()}


def _escaped(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _unescaped(text: str) -> str | bytes:
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


def read_json(value: bytes | None, *, default_tenant: str) -> Uploaded:
    """Read one value of the Kafka topic posts.vision.uploaded. Raises Unreadable."""
    event = _json(value or b"")
    if not isinstance(event, dict):
        raise Unreadable(f"the value is {type(event).__name__}, not a JSON object")
    return read_event(event, default_tenant=default_tenant)


def read_event(event: Mapping[str, Any], *, default_tenant: str, entry_id: str | None = None) -> Uploaded:
    """Bring one event, as a mapping of its top-level keys, to the canonical form. Raises Unreadable."""
    raw = {n: v if n in _TEXTS else _unquoted(v) for n, v in event.items() if v is not None}
    _check_depth(raw)
    if (kind := raw.get("event_type")) not in (None, "", UPLOADED_EVENT):
        raise Unreadable(f"event_type is {_told(kind)}; this stream takes {UPLOADED_EVENT}")
    if (version := str(raw.get("schema_version") or "1.0")) not in SCHEMA_VERSIONS:
        raise Unreadable(f"schema_version is {_told(version)}; known are {', '.join(sorted(SCHEMA_VERSIONS))}")
    given = raw.get("tenant_id")
    blank = given is None or (isinstance(given, str) and not given.strip())
    tenant = default_tenant if blank else (_identity(given) or "").strip()
    post = _identity(raw.get("post_id"))
    if not tenant or not post:
        raise Unreadable(f"{'tenant_id' if not tenant else 'post_id'} is missing or no usable text")
    occurred = _time(raw.get("occurred_at"), raw.get("uploaded_at"), raw.get("timestamp")) or _entry_time(entry_id)
    listed = raw.pop("media", None)
    listed = raw.pop("media_files", listed)
    raw = {
        **raw,
        "event_type": UPLOADED_EVENT,
        "schema_version": "1.0",
        "tenant_id": tenant,
        "post_id": post,
        "trace_id": str(raw.get("trace_id") or _derived_trace(tenant, post, entry_id)),
        "occurred_at": occurred,
        "uploaded_at": _time(raw.get("uploaded_at")),
        "idempotency_key": str(raw.get("idempotency_key") or f"{tenant}:{post}:vision_upload"),
        "requires_vision": _bool(raw.get("requires_vision"), default=True),
        "media_files": _media(listed),
    }
    if "channel_id" in raw:
        raw["channel_id"] = str(raw["channel_id"])
    _check_sizes(raw, LIMITS, "")
    try:
        return Uploaded.model_validate(raw)
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Unreadable(f"{where}: {first['msg']}") from None


def _told(value: Any) -> str:
    """A value shortened for an error text."""
    return repr(value if len(str(value)) <= MAX_TOLD_CHARS else f"{str(value)[:MAX_TOLD_CHARS]}…")


def _media(listed: Any) -> list[Medium]:
    if not isinstance(listed, list):
        raise Unreadable("media_files is missing or not a list")
    if len(listed) > MAX_MEDIA:
        raise Unreadable(f"media_files lists {len(listed)} media; at most {MAX_MEDIA} are taken: publish several posts")
    return [_medium(position, item) for position, item in enumerate(listed)]


def _medium(position: int, item: Any) -> Medium:
    item = _unquoted(item)
    if not isinstance(item, dict):
        raise Unreadable(f"media_files[{position}] is not an object")
    _check_depth(item)
    given = {name: value for name, value in item.items() if value is not None}
    sha256 = _identity(given.get("sha256"))
    if not sha256:
        raise Unreadable(f"media_files[{position}].sha256 is missing")
    given["sha256"] = sha256.strip().lower()
    for name in ("s3_key", "mime_type", "telegram_file_id", "role"):
        if name in given:
            given[name] = str(given[name])
    for name in ("size_bytes", "position"):
        given[name] = _int(given.get(name))
    given["size_bytes"] = max(0, given["size_bytes"] or 0)
    _check_sizes(given, MEDIUM_LIMITS, f"media_files[{position}].")
    try:
        return Medium.model_validate(given)
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        raise Unreadable(f"media_files[{position}].{first['loc'][0]}: {first['msg']}") from None


def _text(value: Any) -> str:
    """The value as text. Refuses what is not UTF-8: with replacement characters two ids could become equal."""
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as fault:
        raise Unreadable(f"not UTF-8: {fault.reason} at byte {fault.start}") from None


def _json(text: str | bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as fault:
        raise Unreadable(f"not JSON: {fault}") from None


def _unquoted(value: Any) -> Any:
    """Decode a list or object that is encoded as a JSON string. Other values stay unchanged."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return value


def _check_depth(value: Any) -> None:
    """Raises Unreadable if lists and objects nest too deep."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise Unreadable(f"lists and objects nest more than {MAX_DEPTH} deep")
        inner = (item.values() if isinstance(item, dict) else item for item in level)
        level = [item for items in inner for item in items if isinstance(item, dict | list)]


def _check_sizes(fields: Mapping[str, Any], limits: Mapping[str, int], where: str) -> None:
    """Raises Unreadable if a field is too long: in a key, a header or an index it would block other events, too."""
    for name, most in limits.items():
        if (length := len(str(fields.get(name) or ""))) > most:
            raise Unreadable(f"{where}{name}: {length} characters; at most {most} are taken: shorten it")


def _identity(value: Any) -> str | None:
    """The identity as text if it is usable: text or a whole number, without control characters. Otherwise None."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if text.strip() and text.isprintable() else None


def _int(value: Any) -> int | None:
    """A whole number that every store can hold. Otherwise None."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 2**63 else None


def _bool(value: Any, *, default: bool) -> bool:
    text = str(value).strip().lower()
    return True if text in _TRUE else False if text in _FALSE else default


def _time(*candidates: Any) -> datetime | None:
    """The first candidate that is a time: ISO 8601, or seconds since the epoch. Naive times are UTC.

    A time whose offset Postgres does not accept is converted to UTC. A time outside of the years 1 to 9999 in UTC does
    not count.
    """
    for value in candidates:
        try:
            time = (
                datetime.fromtimestamp(float(value), UTC)
                if isinstance(value, int | float) or str(value).replace(".", "", 1).isdigit()
                else datetime.fromisoformat(str(value))
            )
            if not time.tzinfo:
                return time.replace(tzinfo=UTC)
            in_utc, offset = time.astimezone(UTC), time.utcoffset() or timedelta(0)
        except (ValueError, OverflowError, OSError):
            continue
        return time if abs(offset) <= MAX_OFFSET and not offset % timedelta(minutes=1) else in_utc
    return None


def _entry_time(entry_id: str | None) -> datetime:
    """The time in the entry's id. Producers may choose ids; if the id is not a valid time, it is the epoch."""
    milliseconds = (entry_id or "").partition("-")[0]
    try:
        return datetime.fromtimestamp(int(milliseconds or 0) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _derived_trace(tenant: str, post: str, entry_id: str | None) -> str:
    """A trace id for an event without one. It is the same if the entry is read again."""
    return hashlib.sha256(f"{tenant}\0{post}\0{entry_id}".encode()).hexdigest()[:32]


# --- writing ----------------------------------------------------------------------------------------------------------


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
