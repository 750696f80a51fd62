"""Finds a post without a row by another id: of a Redis entry, a Kafka record, a post or a trace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from redis.asyncio import Redis

from vision_app import topics
from vision_app.settings import Settings

from .hops import LAST_ENTRY_MS, MAX_ENTRIES, entry_body
from .kafka_log import KafkaLog, parse_id

_ENTRY_ID = re.compile(r"([0-9]{6,20})-([0-9]{1,20})")
_RECORD_ID = re.compile(r"[a-z][a-z0-9._]*-[0-9]{1,19}-[0-9]{1,19}")


@dataclass(frozen=True)
class Named:
    """A post that a message names."""

    tenant_id: str
    post_id: str
    trace_id: str | None
    pictures: frozenset[str]


async def search(settings: Settings, text: str, redis: Redis, kafka: KafkaLog, since_ms: int) -> list[Named]:
    """The posts that an id means. Streams and the topic of inputs are searched back to `since_ms`."""
    streams = (*settings.input_streams, settings.vision_output_stream, settings.vision_dlq_stream)
    bodies: list[Mapping[str, Any]] = []
    if _RECORD_ID.fullmatch(text) and (record := await kafka.one(*parse_id(text))):
        bodies.append(_json(record.value))
    for stream in streams:
        exact = text if _is_entry_id(text) else None
        entries = await redis.xrange(
            stream,
            min=exact or str(min(max(0, since_ms), LAST_ENTRY_MS)),
            max=exact or "+",
            count=None if exact else MAX_ENTRIES,
        )
        found = [entry_body(fields) for _, fields in entries]
        bodies += [body for body in found if exact or text in _ids(body)]
    if not bodies:
        needle = orjson.dumps(text)[1:-1]
        stretches = await kafka.between(kafka.partitions([topics.UPLOADED.name]), since_ms, None)
        async for record in kafka.read(stretches):
            if needle in record.value and text in _ids(body := _json(record.value)):
                bodies.append(body)
    named = [one for body in bodies if (one := named_by(body, settings.s3_default_tenant_id))]
    return list({(one.tenant_id, one.post_id): one for one in named}.values())


def _is_entry_id(text: str) -> bool:
    """Whether Redis accepts it as an id: two numbers of 64 bits. Otherwise it may be the id of a post or a trace."""
    parts = _ENTRY_ID.fullmatch(text)
    return parts is not None and all(int(part) <= LAST_ENTRY_MS for part in parts.groups())


def named_by(body: Mapping[str, Any], default_tenant: str) -> Named | None:
    """The post that a message is about, or an event within it; None if it names none."""
    for part in (body, body.get("event"), body.get("task")):
        if isinstance(part, dict) and part.get("post_id") is not None:
            listed = part.get("media_files") or part.get("media") or [part.get("medium") or part]
            media = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
            pictures = frozenset(str(item["sha256"]) for item in media if item.get("sha256"))
            tenant, trace = part.get("tenant_id") or default_tenant, part.get("trace_id")
            return Named(str(tenant), str(part["post_id"]), str(trace) if trace else None, pictures)
    return None


def _ids(body: Mapping[str, Any]) -> tuple[str, str]:
    return str(body.get("post_id")), str(body.get("trace_id"))


def _json(value: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
