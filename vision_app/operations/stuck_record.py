"""Sets a record aside by hand: shows what it is, which worker holds it and what follows, and does it.

For a record that holds up its partition. The worker makes it a dead letter (`streams/set_aside.py`); this module only
marks it and waits for the letter.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka import TopicPartition
from redis.asyncio import Redis

from vision_app import topics
from vision_app.settings import Settings
from vision_app.streams.set_aside import mark, parse_place
from vision_app.telemetry.watch import RecordPlace
from vision_app.texts import heard, noted, say

from .connections import OperationError
from .health import Health
from .hops import entry_body, entry_waits_for, summary
from .kafka_log import KafkaLog
from .letters import Filter, read_letters

WAIT_SECONDS = 30.0
POLL_SECONDS = 1.0
CLOCKS_MS = 60_000
"""The largest assumed difference between the clocks of this machine and the broker."""

READ = tuple(topic.name for topic in topics.ALL if topic is not topics.DLQ)
_CONSEQUENCES: Mapping[str, str] = {
    topics.UPLOADED.name: noted("its post is not opened; `vision dlq replay` tries it again"),
    topics.POSTS.name: noted("the post does not learn of it and stays as it is; `vision dlq replay` tries it again"),
    topics.MEDIA.name: noted("the picture ends as failed and its post goes on; `vision dlq replay` tries it again"),
    topics.BUDGET.name: noted("the ledger does not learn of it; `vision dlq replay` tries it again"),
    topics.ANALYSIS.name: noted(
        "the picture ends as failed and its post goes on; its grant is closed: charged at its estimate if its call "
        "was begun, else released; `vision dlq replay` tries it again under a new grant"
    ),
    topics.SINK_POSTGRES.name: noted(
        "the row is not written by it and the post is not announced; `vision dlq replay` tries it again"
    ),
    topics.SINK_S3.name: noted("the post's document is not written by it; `vision dlq replay` tries it again"),
    topics.SINK_NEO4J.name: noted("the post is not in the graph by it; `vision dlq replay` tries it again"),
    topics.ANALYZED.name: noted("the post is not announced on the Redis stream; `vision dlq replay` tries it again"),
    topics.SKIPPED.name: noted("the post is not announced on the Redis stream; `vision dlq replay` tries it again"),
}
_BUDGET_CONSEQUENCES: Mapping[str, str] = {
    "reserve": noted("the picture ends as failed and its post goes on; `vision dlq replay` tries it again"),
    "lost": noted(
        "the picture ends as failed and its post goes on; its grant stays open for a day; `vision dlq replay` tries it "
        "again"
    ),
    "settle": noted("its grant stays open, and counts as lost after a day; `vision dlq replay` tries it again"),
    "release": noted("its grant stays open, and counts as lost after a day; `vision dlq replay` tries it again"),
}


@dataclass(frozen=True)
class StuckRecord:
    """A record that may be set aside. `record_ms`: the broker's append time, None for an entry of a stream."""

    place: RecordPlace
    what: str
    tenant_id: str | None
    post_id: str | None
    record_ms: int | None
    records_behind: int
    holder: str
    consequence: str

    def as_json(self) -> dict[str, Any]:
        return {
            "place": str(self.place),
            "what": self.what,
            "tenant_id": self.tenant_id,
            "post_id": self.post_id,
            "records_behind_it": self.records_behind,
            "holder": self.holder,
            "follows": self.consequence,
        }


async def find_stuck_record(
    settings: Settings, text: str, kafka: KafkaLog, redis: Redis, workers: list[Health]
) -> StuckRecord:
    """The record at a place. Raises OperationError if there is none that may hold up a partition."""
    try:
        place = parse_place(text)
    except ValueError as fault:
        raise OperationError(
            say("{fault}; GET /readyz and `vision doctor` name the place of a stall", fault=fault)
        ) from fault
    if place.partition is None:
        return await _entry(settings, place, redis, workers)
    return await _record(place, place.partition, kafka, workers)


async def set_aside(
    record: StuckRecord, redis: Redis, kafka: KafkaLog, reason: str, operator: str, seconds: float
) -> bool:
    """Mark the record and wait for its letter. False: no worker has set it aside yet; the mark stays."""
    marked_ms = round(time.time() * 1000)
    await mark(redis, record.place, reason, operator, record.record_ms)
    deadline = time.monotonic() + seconds
    wanted = Filter(ids=(str(record.place),), since_ms=marked_ms - CLOCKS_MS)
    while not await read_letters(kafka, wanted):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def _record(place: RecordPlace, partition: int, kafka: KafkaLog, workers: list[Health]) -> StuckRecord:
    if place.topic not in READ:
        raise OperationError(
            say(
                "no worker reads {topic}; records of these can be set aside: {read}",
                topic=place.topic,
                read=", ".join(READ),
            )
        )
    offset, at = int(place.offset), TopicPartition(place.topic, partition)
    record = await kafka.one(place.topic, partition, offset)
    if record is None or record.offset != offset:
        raise OperationError(
            say("there is no record at {place}: it was never there, or retention has taken it", place=place)
        )
    if (await kafka.committed()).get(at, 0) > offset:
        raise OperationError(
            say("{place} is acknowledged: it holds nothing up; see `vision trace {place}`", place=place)
        )
    body = _json(record.value)
    return StuckRecord(
        place=place,
        what=_summary(body),
        tenant_id=_named(body, "tenant_id"),
        post_id=_named(body, "post_id"),
        record_ms=record.at_ms,
        records_behind=(await kafka.ends([at]))[at] - offset - 1,
        holder=_holder(place, workers),
        consequence=_BUDGET_CONSEQUENCES.get(str(body.get("type")), _CONSEQUENCES[place.topic])
        if place.topic == topics.BUDGET.name
        else _CONSEQUENCES[place.topic],
    )


async def _entry(settings: Settings, place: RecordPlace, redis: Redis, workers: list[Health]) -> StuckRecord:
    if place.topic not in settings.input_streams:
        raise OperationError(
            say(
                "{topic} is no input stream; they are {input_streams}",
                topic=place.topic,
                input_streams=", ".join(settings.input_streams),
            )
        )
    found = await redis.xrange(place.topic, min=place.offset, max=place.offset, count=1)
    if not found:
        raise OperationError(
            say(
                "there is no entry {offset} in {topic}: never there, or trimmed", offset=place.offset, topic=place.topic
            )
        )
    if await entry_waits_for(redis, settings, place.topic, place.offset) is None:
        raise OperationError(
            say(
                "{place} is acknowledged: it holds nothing up; see `vision trace {offset}`",
                place=place,
                offset=place.offset,
            )
        )
    body = entry_body(found[0][1])
    return StuckRecord(
        place=place,
        what=_summary(body),
        tenant_id=_named(body, "tenant_id"),
        post_id=_named(body, "post_id"),
        record_ms=None,
        records_behind=0,
        holder=_holder(place, workers),
        consequence=say("it is not relayed; `vision dlq replay` tries it again"),
    )


def _holder(place: RecordPlace, workers: list[Health]) -> str:
    for worker in workers:
        for stall in worker.stalls:
            if stall["place"] == str(place):
                return say(
                    "{name}: {stage} since {since}Z; {reason}",
                    name=worker.name,
                    stage=stall["stage"],
                    since=stall["since"][:19],
                    reason=heard(stall["reason"]),
                )
        for work in worker.oldest:
            if work["place"] == str(place):
                waits = work["waits_for"] or say("nothing known")
                return say(
                    "{name}: {stage} since {since}Z, waiting for {waits}",
                    name=worker.name,
                    stage=work["stage"],
                    since=work["since"][:19],
                    waits=waits,
                )
    if all(worker.answer is None for worker in workers):
        return say("no worker answers: it is set aside as soon as one is started")
    return say("no worker says that it is its oldest work: it is set aside when its turn comes")


def _summary(body: Mapping[str, Any]) -> str:
    try:
        return summary(body)
    except (KeyError, TypeError, AttributeError):  # a message that does not match its type
        return str(body.get("type") or body.get("event_type") or say("not readable"))[:200]


def _named(body: Mapping[str, Any], name: str) -> str | None:
    for part in (body, body.get("event"), body.get("task")):
        if isinstance(part, dict) and isinstance(part.get(name), str):
            return str(part[name])[:256]
    return None


def _json(value: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
