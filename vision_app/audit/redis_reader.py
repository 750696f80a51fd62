"""Reads Redis: entries of the input streams, announced events, the stream of dead letters."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from redis.asyncio import Redis

from vision_app.events import Unreadable, read_entry
from vision_app.settings import Settings
from vision_app.stores.redis_announcer import STREAM_MAXLEN

from .material import Emission, Event, Input
from .scope import MARGIN_MS, Scope

PAGE = 1000


async def read_inputs(redis: Redis, settings: Settings, scope: Scope) -> dict[str, Input]:
    """The entries of all input streams, by `stream-entry`. Raises RedisError."""
    found = {}
    for stream in settings.input_streams:
        async for entry_id, fields in _entries(redis, stream, scope.since_ms):
            if scope.within(_time(entry_id)) and (one := _input(stream, entry_id, fields, settings, scope)):
                found[one.id] = one
    return found


def _input(stream: str, entry_id: str, fields: Mapping[Any, Any], settings: Settings, scope: Scope) -> Input | None:
    name, at_ms = f"{stream}-{entry_id}", _time(entry_id)
    try:
        event = read_entry(fields, default_tenant=settings.s3_default_tenant_id, entry_id=entry_id)
    except Unreadable:
        return Input(name, "", "", at_ms) if scope.tenants is None else None
    if not scope.takes(event.tenant_id):
        return None
    return Input(name, event.tenant_id, event.post_id, at_ms, tuple(medium.sha256 for medium in event.media_files))


async def read_events(redis: Redis, settings: Settings, scope: Scope) -> list[Event]:
    """The announced events, in the order of the stream. Raises RedisError."""
    found = []
    async for entry_id, fields in _entries(redis, settings.vision_output_stream, max(0, scope.since_ms - MARGIN_MS)):
        event = _event(entry_id, fields)
        if event is not None and scope.takes(event.tenant_id):
            found.append(event)
    return found


def _event(entry_id: str, fields: Mapping[Any, Any]) -> Event | None:
    """None for an entry that is not our announcement: other programs may also write to the stream."""
    try:
        body = orjson.loads(fields.get(b"data", b""))
        emission = _emission(body["emission"])
        items = [_said(item) for item in body.get("enrichments", ())]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return Event(
        entry_id=entry_id,
        at_ms=_time(entry_id),
        tenant_id=str(body.get("tenant_id", "")),
        post_id=str(body.get("post_id", "")),
        emission=emission,
        content=hashlib.blake2b(orjson.dumps(items), digest_size=8).hexdigest(),
        deferred=any((item.get("details") or {}).get("deferred") for item in body.get("enrichments", ())),
    )


def _said(item: Mapping[str, Any]) -> list[Any]:
    """An event's contents about a medium, without fields that may differ between two announcements of one state."""
    reset_at = (item.get("details") or {}).get("reset_at")
    return [item.get("sha256"), item.get("status"), item.get("reason"), reset_at, item.get("analysis")]


def _emission(text: str) -> Emission:
    time_ms, _, offset = text.partition("-")
    return int(time_ms), int(offset)


async def first_event_ms(redis: Redis, settings: Settings) -> int:
    """The time from which the output stream is complete: 0, or its first entry's time if it was trimmed.

    Redis counts what was ever added (`entries-added`), so trimming by anybody is seen, by MAXLEN and by XTRIM. A server
    that does not count (before 7.0): the stream may be trimmed from our own MAXLEN on. Raises RedisError.
    """
    stream = settings.vision_output_stream
    if not await redis.exists(stream):
        return 0
    about = await redis.xinfo_stream(stream)
    added = about.get("entries-added")
    if added is None:
        trimmed = about["length"] >= STREAM_MAXLEN
    else:  # XDEL is seen, too, but not how often; one entry that is gone and was deleted by its id was not trimmed
        deleted = about["max-deleted-entry-id"] != b"0-0"
        trimmed = added - about["length"] > deleted
    if not trimmed:
        return 0
    first = about["first-entry"]
    return _time((first[0] if first else about["last-generated-id"]).decode())


async def read_dlq_stream(redis: Redis, settings: Settings, scope: Scope) -> set[str]:
    """The dead letters on Redis, each named `original stream-original entry`. Raises RedisError."""
    found = set()
    async for _, fields in _entries(redis, settings.vision_dlq_stream, max(0, scope.since_ms - MARGIN_MS)):
        stream, entry = fields.get(b"original_stream", b""), fields.get(b"original_message_id", b"")
        found.add(f"{stream.decode('utf-8', 'replace')}-{entry.decode('utf-8', 'replace')}")
    return found


async def holds_entry(redis: Redis, stream: str, entry_id: str) -> bool:
    """Whether an entry is, or may have been, on a stream: one older than the first may have been trimmed."""
    first = await redis.xrange(stream, count=1)
    if not first or _order(entry_id) < _order(first[0][0].decode()):
        return True
    return bool(await redis.xrange(stream, min=entry_id, max=entry_id))


async def _entries(redis: Redis, stream: str, since_ms: int) -> AsyncIterator[tuple[str, Mapping[Any, Any]]]:
    """Page by page, up to the end at the time of the last page."""
    start = str(max(0, since_ms))
    while page := await redis.xrange(stream, min=start, count=PAGE):
        for entry_id, fields in page:
            yield entry_id.decode(), fields
        if len(page) < PAGE:
            return
        start = f"({page[-1][0].decode()}"


def _time(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


def _order(entry_id: str) -> tuple[int, int]:
    time_ms, _, number = entry_id.partition("-")
    return int(time_ms), int(number or 0)
