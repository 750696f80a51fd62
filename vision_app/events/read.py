"""Reads uploaded posts, tolerantly.

Four shapes of an entry are read (fields `event`+`data`, `data` alone, `payload` instead of `data`, one field per key),
schema versions v1, 1, 1.0 or none. An entry is refused only if tenant, post or media identity is missing, or if a field
that is copied out of the event is longer than `LIMITS` allow.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from pydantic import ValidationError

from vision_app.messages import Medium, Uploaded

from .limits import LIMITS, MAX_DEPTH, MAX_MEDIA, MEDIUM_LIMITS

UPLOADED_EVENT = "posts.vision.uploaded"
SCHEMA_VERSIONS = frozenset({"v1", "1", "1.0"})

_TEXTS = frozenset({"tenant_id", "post_id", "trace_id", "idempotency_key", "channel_id"})
"""Fields that stay unchanged even if they look like JSON."""
MAX_OFFSET = timedelta(hours=15, minutes=59)
"""Largest offset of a time from UTC. Python accepts up to a day, Postgres only this."""
MAX_QUOTED_CHARS = 100
_TRUE, _FALSE = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})


class Unreadable(ValueError):
    """The entry names no tenant, post or media. Correct the producer; the entry is kept whole in the dead letters."""


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
    event.setdefault("traceparent", flat.get("traceparent"))
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
        raise Unreadable(f"event_type is {_shortened(kind)}; this stream takes {UPLOADED_EVENT}")
    if (version := str(raw.get("schema_version") or "1.0")) not in SCHEMA_VERSIONS:
        raise Unreadable(f"schema_version is {_shortened(version)}; known are {', '.join(sorted(SCHEMA_VERSIONS))}")
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


def _shortened(value: Any) -> str:
    """A value shortened for an error text."""
    return repr(value if len(str(value)) <= MAX_QUOTED_CHARS else f"{str(value)[:MAX_QUOTED_CHARS]}…")


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
