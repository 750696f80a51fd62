"""The parts of producer and consumer, for the e2e check, the demo and tests: publish a post, read announcements.

They do not know how the worker works.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import orjson
from redis.asyncio import Redis

from vision_app.events import UPLOADED_EVENT
from vision_app.messages import Medium
from vision_app.settings import Settings
from vision_app.stores.keys import media_key
from vision_app.stores.s3 import S3Store
from vision_app.texts import say

BLOCK_MS = 500  # how long one read of a stream waits for new entries
PRODUCER = "telethon-ingest"
START_OF_STREAM = "0-0"


# --- the producer's part ----------------------------------------------------------------------------------------------


async def upload(s3: S3Store, tenant_id: str, source: Path | bytes, mime_type: str) -> Medium:
    """Upload a file as a producer does and return its description for an event. Raises S3Error, OSError."""
    content = source if isinstance(source, bytes) else await asyncio.to_thread(source.read_bytes)
    medium = _medium(tenant_id, hashlib.sha256(content).hexdigest(), mime_type, len(content))
    await s3.put(medium.s3_key, content, mime_type)
    return medium


def never_uploaded(tenant_id: str, name: str, mime_type: str = "image/jpeg") -> Medium:
    """A medium that an event may list although its object does not exist. `name` makes it unique."""
    return _medium(tenant_id, hashlib.sha256(f"never uploaded: {name}".encode()).hexdigest(), mime_type, 51_200)


def _medium(tenant_id: str, sha256: str, mime_type: str, size_bytes: int) -> Medium:
    key = media_key(tenant_id, sha256, mime_type)
    return Medium(sha256=sha256, s3_key=key, mime_type=mime_type, size_bytes=size_bytes)


def uploaded_event(
    tenant_id: str,
    post_id: str,
    media: Sequence[Medium],
    trace_id: str,
    *,
    channel_id: str = "demo-channel",
    schema_version: str = "1.0",
    **extra: Any,
) -> dict[str, Any]:
    """The event of a post with uploaded media, as a producer writes it. `extra` fields are added or replace."""
    now = datetime.now(UTC).isoformat()
    return {
        "event_type": UPLOADED_EVENT,
        "schema_version": schema_version,
        "producer": PRODUCER,
        "trace_id": trace_id,
        "occurred_at": now,
        "uploaded_at": now,
        "idempotency_key": f"{tenant_id}:{post_id}:vision_upload",
        "tenant_id": tenant_id,
        "post_id": post_id,
        "channel_id": channel_id,
        "requires_vision": True,
        "media_files": [medium.model_dump(mode="json", exclude_none=True) for medium in media],
        **extra,
    }


async def publish(redis: Redis, settings: Settings, event: Mapping[str, Any]) -> str:
    """Put an event on the first input stream (shape A). Returns the entry's id. Raises RedisError."""
    fields: dict[Any, Any] = {"event": UPLOADED_EVENT, "data": orjson.dumps(event)}
    return as_text(await redis.xadd(settings.input_streams[0], fields))


# --- the consumer's part ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Announced:
    """One event on the output stream. `skipped` tells the two kinds apart."""

    entry_id: str
    event_type: str
    body: Mapping[str, Any]

    @property
    def post_id(self) -> str:
        return str(self.body.get("post_id", ""))

    @property
    def at_ms(self) -> int:
        """When Redis took it, in milliseconds since the epoch."""
        return int(self.entry_id.partition("-")[0])


def announced(entry_id: Any, fields: Mapping[Any, Any]) -> Announced:
    """Read one entry of the output stream. Raises ValueError if it has no JSON object in `data`."""
    flat = {as_text(name): as_text(value) for name, value in fields.items()}
    if "data" not in flat:
        raise ValueError(say("it has no field data"))
    if not isinstance(body := orjson.loads(flat["data"]), dict):
        raise ValueError(say("its data is no JSON object"))
    return Announced(as_text(entry_id), flat.get("event", ""), body)


async def newest_announcement(redis: Redis, settings: Settings) -> str:
    """The id of the output stream's last entry: read it before publishing, so that no announcement is missed."""
    entries = await redis.xrevrange(settings.vision_output_stream, count=1)
    return as_text(entries[0][0]) if entries else START_OF_STREAM


async def await_announcements(
    redis: Redis,
    settings: Settings,
    post_ids: Collection[str],
    since: str,
    deadline: float,
    *,
    on_event: Callable[[Announced], None] = lambda _: None,
    on_unreadable: Callable[[str, ValueError], None] = lambda *_: None,
    tenant_id: str | None = None,
) -> dict[str, Announced]:
    """Wait until every post was announced after the entry `since`, or until `deadline` (of `time.monotonic()`).

    Returns the first announcement of each post that has one. `on_event` is called once per entry of these posts.
    Entries that are no announcements are skipped, as anybody may add them; `on_unreadable` gets id and reason.
    With `tenant_id`, posts of other tenants do not count: two tenants may have a post of the same id.
    """
    found: dict[str, Announced] = {}
    last = since
    while len(found) < len(set(post_ids)) and time.monotonic() < deadline:
        block = max(1, min(BLOCK_MS, round((deadline - time.monotonic()) * 1000)))
        for _, entries in cast(list[Any], await redis.xread({settings.vision_output_stream: last}, block=block)) or []:
            for entry_id, fields in entries:
                last = as_text(entry_id)
                try:
                    event = announced(entry_id, fields)
                except ValueError as fault:
                    on_unreadable(last, fault)
                    continue
                if event.post_id in post_ids and tenant_id in (None, event.body.get("tenant_id")):
                    found.setdefault(event.post_id, event)
                    on_event(event)
    return found


async def announcements_since(
    redis: Redis, settings: Settings, post_ids: Collection[str], since: str
) -> dict[str, list[Announced]]:
    """Every announcement of these posts after the entry `since`, in order. Skips entries that are none."""
    found: dict[str, list[Announced]] = {post_id: [] for post_id in post_ids}
    for entry_id, fields in await redis.xrange(settings.vision_output_stream, min=f"({since}"):
        with suppress(ValueError):
            event = announced(entry_id, fields)
            if event.post_id in found:
                found[event.post_id].append(event)
    return found


def as_text(value: Any) -> str:
    """What Redis answers, with or without `decode_responses`."""
    return value.decode() if isinstance(value, bytes) else str(value)
