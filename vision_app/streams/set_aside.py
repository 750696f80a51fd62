"""Records that an operator has set aside: they become dead letters instead of being worked on.

The marks are a hash in Redis, place → mark, written by `vision dlq take`. Every worker reads it when it starts and
every few seconds. So a record can be set aside whether or not a worker holds it: a running handler is interrupted, and
a later one does not start (docs/decisions/0008-a-record-may-be-set-aside.md).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError
from redis.exceptions import RedisError

from vision_app.clients.redis import ClusterRefused, redis_client, refuse_cluster
from vision_app.settings import Settings
from vision_app.telemetry.watch import Interrupted, RecordPlace, Watch, Work

from .faust_seams import Event, Worker, place_of

log = structlog.get_logger(__name__)

KEY = "vision:set_aside"
REFRESH_SECONDS = 2.0
TIMEOUT_SECONDS = 5.0
KEEP_SECONDS = 40 * 86400
"""Longer than Kafka keeps a record; a mark takes a few hundred bytes."""


class SetAside(Exception):
    """An operator has set this record aside. Try it again with `vision dlq replay`."""


class Mark(BaseModel):
    """Why and when an operator set a record aside. `record_ms`: when the broker took it; None for a stream entry."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    reason: str = "set aside"
    record_ms: int | None = None
    marked_at: float = 0.0


class Marks:
    """The records set aside, as far as this worker knows."""

    def __init__(self, redis: Any, watch: Watch) -> None:
        self._redis, self._watch = redis, watch
        self._marks: Mapping[str, Mark] = {}

    @classmethod
    def of(cls, settings: Settings, watch: Watch) -> Marks:
        return cls(redis_client(settings, timeout=TIMEOUT_SECONDS), watch)

    async def open(self) -> None:
        """Read the marks before the first record arrives. If Redis is away, the worker starts without them.

        Raises ClusterRefused, which ends the start.
        """
        try:
            await refuse_cluster(self._redis)
        except ClusterRefused:
            raise
        except (RedisError, OSError) as fault:
            log.debug("redis_cluster_unknown", error=repr(fault))
        await self.refresh()

    async def close(self) -> None:
        await self._redis.aclose()

    async def refresh(self) -> None:
        """Read the marks, and interrupt handlers that work on a marked record."""
        try:
            found = await self._redis.hgetall(KEY)
        except (RedisError, OSError) as fault:  # the way in counts and logs that Redis is away
            log.debug("set_aside_marks_unavailable", error=repr(fault))
            return
        places = {place.decode("utf-8", "replace"): value for place, value in found.items()}
        marks = {place: mark for place, value in places.items() if (mark := _mark(place, value)) is not None}
        old = time.time() - KEEP_SECONDS
        if outdated := [place for place, mark in marks.items() if mark.marked_at < old]:
            await self._redis.hdel(KEY, *outdated)
        self._marks = {place: mark for place, mark in marks.items() if place not in outdated}
        for place in self._marks:
            for work in self._watch.works_at(place):
                if work.interrupt():
                    log.warning("record_set_aside", place=place, stage=work.stage)

    def reason(self, event: Event) -> str | None:
        """Why a Kafka event is set aside; None if it is not. A mark does not apply to a recreated topic."""
        mark = self._marks.get(str(place_of(event))) if self._marks else None
        if mark is None or mark.record_ms != round(event.message.timestamp * 1000):
            return None
        return mark.reason

    def reason_at(self, place: RecordPlace) -> str | None:
        """The same for an entry of a Redis stream. Its id is never used twice."""
        mark = self._marks.get(str(place)) if self._marks else None
        return mark.reason if mark else None


async def mark(redis: Any, place: RecordPlace, reason: str, operator: str, record_ms: int | None) -> None:
    """Set a record aside. `record_ms`: when the broker took it, None for an entry of a stream."""
    text = f"set aside by {operator}: {reason}"
    kept = Mark(reason=text, record_ms=record_ms, marked_at=time.time())
    await redis.hset(KEY, str(place), kept.model_dump_json())


def parse_place(text: str) -> RecordPlace:
    """topic-partition-offset, or stream-milliseconds-number. Raises ValueError."""
    parts = text.rsplit("-", 2)
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts[1:]):
        raise ValueError(f"{text!r} is no place; give it as topic-partition-offset or stream-milliseconds-number")
    if parts[0].startswith("stream:"):
        return RecordPlace(parts[0], None, f"{parts[1]}-{parts[2]}")
    return RecordPlace(parts[0], int(parts[1]), str(int(parts[2])))


@contextmanager
def unless_set_aside(app: Worker, work: Work, event: Event) -> Iterator[None]:
    """Handle an event inside this block. Raises SetAside if an operator sets it aside before or during the block."""
    _check(app, event)
    try:
        with work.interruptible():
            yield
    except Interrupted:
        _check(app, event)
        raise


def marks_of(app: Worker) -> Marks | None:
    """The app's marks; None in tests of one part, which have no Redis."""
    marks = getattr(app, "marks", None)
    return marks if isinstance(marks, Marks) else None


def set_aside(app: Worker, event: Event) -> SetAside | None:
    """The error to dead-letter an event with if it is set aside; None if it is not."""
    marks = marks_of(app)
    reason = marks.reason(event) if marks else None
    return SetAside(reason) if reason is not None else None


def _check(app: Worker, event: Event) -> None:
    if (fault := set_aside(app, event)) is not None:
        raise fault


def _mark(place: str, value: bytes) -> Mark | None:
    """Parse a stored mark; None if it is not one of ours."""
    try:
        return Mark.model_validate_json(value)
    except ValidationError as fault:
        log.warning(
            "set_aside_mark_unreadable",
            key=KEY,
            place=place,
            errors=fault.error_count(),
            remedy="remove this field with HDEL",
        )
        return None
