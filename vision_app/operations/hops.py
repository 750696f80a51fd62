"""Finds one post's way through the system: its records in Kafka and its entries in Redis.

A key gives one partition of each topic, and the post's times give short stretches of it, so little is read. A grant is
found by its id, since the messages that close it name neither post nor picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka import TopicPartition
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from vision_app import topics
from vision_app.messages import REPLAY_HEADER, DeadLetter, key_of
from vision_app.settings import Settings
from vision_app.streams.letter_ids import ids_of
from vision_app.texts import say

from .kafka_log import KafkaLog, Record, Stretch

BEFORE_MS, AFTER_MS = 5_000, 60_000
"""How far before and after a known time of a post is searched. Much later records have a known time of their own."""
LAST_ENTRY_MS = 2**64 - 1  # of the time in a Redis entry's id, which a producer may choose
MAX_RECORDS = 200_000
MAX_ENTRIES = 10_000

Window = tuple[int, int]

_PER_POST = (
    topics.UPLOADED,
    topics.POSTS,
    topics.SINK_POSTGRES,
    topics.SINK_S3,
    topics.SINK_NEO4J,
    topics.ANALYZED,
    topics.SKIPPED,
)
_PER_PICTURE = (topics.MEDIA, topics.ANALYSIS)
_CLOSING = ("settle", "release")


@dataclass(frozen=True)
class Hop:
    """One thing that happened to a post. `where` is a topic, stream or store, `place` the record or entry in it.

    `waits` says what it waits for, if the post has come no further.
    """

    at_ms: int
    where: str
    place: str
    what: str
    waits: str | None = None
    letter: str | None = None  # the id of the dead letter that this is


@dataclass(frozen=True)
class Subject:
    """The post whose way is searched, as far as known. Without windows all kept records are read."""

    tenant_id: str
    post_id: str
    pictures: frozenset[str]
    windows: Sequence[Window]


def windows(moments: Iterable[int], until_ms: int | None = None) -> list[Window]:
    """Stretches of time around moments, merged if they overlap; with `until_ms` the last one lasts until then."""
    joined: list[Window] = []
    for at_ms in sorted(moments):
        start, end = at_ms - BEFORE_MS, at_ms + AFTER_MS
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    if joined and until_ms is not None:
        joined[-1] = (joined[-1][0], max(until_ms, joined[-1][1]))
    return joined


# --- Kafka ------------------------------------------------------------------------------------------------------------


async def kafka_hops(
    kafka: KafkaLog, subject: Subject, committed: Mapping[TopicPartition, int]
) -> tuple[list[Hop], bool]:
    """The post's records, and whether every relevant stretch was read. Raises KafkaError."""
    found, whole = await _records(kafka, subject)
    grants = {str(body.get("id")) for record, body in found if record.topic == topics.ANALYSIS.name}
    return [
        Hop(
            record.at_ms,
            record.topic,
            record.id,
            summary(body) + _replayed(record),
            _waits(record, committed),
            str(body.get("id")) if record.topic == topics.DLQ.name else None,
        )
        for record, body in found
        if _is_of(body, subject, grants)
    ], whole


async def _records(kafka: KafkaLog, subject: Subject) -> tuple[list[tuple[Record, dict[str, Any]]], bool]:
    """Records that name the post, and those that close a grant of its tenant."""
    places = _places(kafka, subject)
    found: list[tuple[Record, dict[str, Any]]] = []
    read, seen = 0, set()
    needle = orjson.dumps(subject.post_id)[1:-1]
    everything: list[tuple[int | None, int | None]] = [(None, None)]
    for window in subject.windows or everything:
        stretches: dict[TopicPartition, Stretch] = await kafka.between(places, *window)
        async for record in kafka.read(stretches):
            read += 1
            if read > MAX_RECORDS:
                return found, False
            about = needle in record.value or any(f'"{kind}"'.encode() in record.value for kind in _CLOSING)
            if about and record.id not in seen:
                seen.add(record.id)
                found.append((record, _json(record.value)))
    return found, True


def _places(kafka: KafkaLog, subject: Subject) -> list[TopicPartition]:
    post = key_of(subject.tenant_id, subject.post_id)
    keys = [(topic.name, post) for topic in _PER_POST]
    keys += [(topic.name, key_of(subject.tenant_id, sha)) for topic in _PER_PICTURE for sha in subject.pictures]
    keys.append((topics.BUDGET.name, key_of(subject.tenant_id)))
    places = [place for topic, key in keys for place in kafka.partition_of(topic, key)]
    return sorted({*places, *kafka.partitions([topics.DLQ.name])})


def _is_of(body: Mapping[str, Any], subject: Subject, grants: set[str]) -> bool:
    if body.get("type") in _CLOSING:
        return str(body.get("grant_id")) in grants
    if body.get("type") == "dead_letter":
        return _letter_is_of(body, subject)
    for part in (body, body.get("event"), body.get("task")):
        if isinstance(part, dict) and part.get("post_id") == subject.post_id:
            return part.get("tenant_id") == subject.tenant_id
    return False


def _letter_is_of(body: Mapping[str, Any], subject: Subject) -> bool:
    try:
        ids = ids_of(DeadLetter.model_validate(body))
    except ValueError:
        return False
    return (ids.get("tenant_id"), ids.get("post_id")) == (subject.tenant_id, subject.post_id)


def _waits(record: Record, committed: Mapping[TopicPartition, int]) -> str | None:
    """Whether the workers still have to finish this record. No worker reads the dead letters."""
    if record.topic == topics.DLQ.name:
        return None
    done = committed.get(TopicPartition(record.topic, record.partition), 0)
    return (
        None
        if done > record.offset
        else say("not finished by a worker yet: {behind} records before it", behind=record.offset - done)
    )


def _replayed(record: Record) -> str:
    origin = record.headers.get(REPLAY_HEADER)
    return say(", replayed from {origin}", origin=origin.decode("utf-8", "replace")) if origin else ""


def summary(body: Mapping[str, Any]) -> str:
    """A message in a few words."""
    kind = str(body.get("type") or body.get("event_type") or "?")
    match kind:
        case "opened":
            return say("opened, {verdicts_count} media", verdicts_count=len(body["verdicts"])) + (
                say(", by force") if body.get("force") else ""
            )
        case "media_task":
            return say(
                "picture {sha256}, dispatch {dispatch}", sha256=body["medium"]["sha256"][:12], dispatch=body["dispatch"]
            )
        case "reserve" | "lost":
            return say(
                "{kind}: {estimate} tokens for picture {sha256}",
                kind=kind,
                estimate=body["estimate"],
                sha256=body["task"]["medium"]["sha256"][:12],
            )
        case "grant":
            picture = body["task"]["medium"]["sha256"][:12]
            return say(
                "grant {id}: {estimate} tokens, {provider}, picture {picture}",
                id=body["id"],
                estimate=body["estimate"],
                provider=body["provider"],
                picture=picture,
            )
        case "settle":
            return say("settle {grant_id}: {tokens} tokens", grant_id=body["grant_id"], tokens=body["tokens"])
        case "release":
            return say("release {grant_id}: nothing spent", grant_id=body["grant_id"])
        case "media_outcome":
            outcome = body["outcome"]
            how = outcome.get("reason") or outcome.get("answer", {}).get("provider")
            cached = say(", from the cache") if outcome.get("cached") else ""
            return say(
                "picture {sha256} {kind}: {how}{cached}",
                sha256=body["sha256"][:12],
                kind=outcome["kind"],
                how=how,
                cached=cached,
            )
        case "post_result":
            return say(
                "result {status}, emission {time_ms}-{offset}",
                status=body["status"],
                time_ms=body["emission"]["time_ms"],
                offset=body["emission"]["offset"],
            )
        case "dead_letter":
            return say(
                "dead letter {id}: {error}: {reason}", id=body["id"], error=body["error"], reason=body["reason"][:120]
            )
    return kind


# --- Redis ------------------------------------------------------------------------------------------------------------


async def redis_hops(redis: Redis, settings: Settings, subject: Subject) -> tuple[list[Hop], bool]:
    """The post's entries on the input, output and dead-letter streams, and whether all were read. Raises RedisError."""
    hops: list[Hop] = []
    whole = True
    for stream in (*settings.input_streams, settings.vision_output_stream, settings.vision_dlq_stream):
        entries, all_read = await _entries(redis, stream, subject.windows)
        whole = whole and all_read
        for entry_id, fields in entries:
            body = entry_body(fields)
            if str(body.get("post_id")) != subject.post_id or not _tenant_fits(body, subject, settings):
                continue
            name = entry_id.decode()
            waits = await entry_waits_for(redis, settings, stream, name) if stream in settings.input_streams else None
            letter = None
            if stream == settings.vision_dlq_stream:
                origin, entry = fields.get(b"original_stream", b""), fields.get(b"original_message_id", b"")
                letter = f"{origin.decode('utf-8', 'replace')}-{entry.decode('utf-8', 'replace')}"
            hops.append(Hop(int(name.partition("-")[0]), stream, name, _entry_summary(fields, body), waits, letter))
    return hops, whole


async def _entries(redis: Redis, stream: str, around: Sequence[Window]) -> tuple[list[Any], bool]:
    """A stream's entries in these stretches of time, and whether all of them were read."""
    found: list[Any] = []
    for start, end in around or [(0, LAST_ENTRY_MS)]:
        first, last = (str(min(max(0, at_ms), LAST_ENTRY_MS)) for at_ms in (start, end))
        found += await redis.xrange(stream, min=first, max=last, count=MAX_ENTRIES - len(found))
        if len(found) >= MAX_ENTRIES:
            return found, False
    return found, True


async def entry_waits_for(redis: Redis, settings: Settings, stream: str, entry_id: str) -> str | None:
    """What an input entry waits for: to be read, or to be acknowledged by its reader. None: it does not wait."""
    group = settings.vision_consumer_group
    try:
        found = await redis.xpending_range(stream, group, min=entry_id, max=entry_id, count=1)
        groups = {info["name"].decode(): info for info in await redis.xinfo_groups(stream)}
    except ResponseError:
        return say("no worker has ever read this stream; is one running? see `vision status`")
    if found:
        item = found[0]
        idle = item["time_since_delivered"] / 1000
        times = say(
            "{times_delivered} time(s), last {idle:.0f} s ago to {consumer}",
            times_delivered=item["times_delivered"],
            idle=idle,
            consumer=item["consumer"].decode(),
        )
        return say("delivered {times}, not acknowledged", times=times)
    last = groups[group]["last-delivered-id"].decode()
    if _place(entry_id) > _place(last):
        return say("not read by a worker yet; is one running? see `vision status`")
    return None


def entry_body(fields: Mapping[bytes, bytes]) -> dict[str, Any]:
    """The event in an entry, whatever its shape; empty if there is none."""
    body = fields.get(b"data") or fields.get(b"payload")
    if body is not None:
        return _json(body)
    return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in fields.items()}


def _tenant_fits(body: Mapping[str, Any], subject: Subject, settings: Settings) -> bool:
    return str(body.get("tenant_id") or settings.s3_default_tenant_id) == subject.tenant_id


def _entry_summary(fields: Mapping[bytes, bytes], body: Mapping[str, Any]) -> str:
    if b"error" in fields:
        return say("dead letter: {error}", error=fields[b"error"].decode("utf-8", "replace")[:120])
    kind = fields.get(b"event", b"").decode("utf-8", "replace") or str(body.get("event_type") or "event")
    return say("{kind}, trace {trace_id}", kind=kind, trace_id=body.get("trace_id"))


def _place(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def _json(value: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
