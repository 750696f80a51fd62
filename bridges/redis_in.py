"""The way in: entries of the Redis input streams are relayed into Kafka, and acknowledged when Kafka has them.

An entry is acknowledged in Redis only after Kafka acknowledged its record, so none is lost; after a crash between the
two it is relayed again, and the posts actor recognises it. Deliveries are counted by Redis itself: an entry that was
delivered VISION_MAX_DELIVERIES times before goes to the dead letters without being tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson
import redis.asyncio as redis
import structlog
from mode import Service
from redis.exceptions import RedisError, ResponseError

from vision_app.events import Unreadable, read_entry
from vision_app.messages import headers_of
from vision_app.settings import Settings
from vision_app.streams.dead_letters import DeadLetters, dead_letter
from vision_app.streams.outbox import Outbox, Oversized
from vision_app.streams.ownership import LeftUnacked
from vision_app.telemetry import metrics
from vision_app.telemetry.logging import bind
from vision_app.telemetry.tracing import traceparent_for
from vision_app.topics import UPLOADED

from .backlog import measure

log = structlog.get_logger(__name__)

BLOCK_MS = 1000
RECONNECT_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
DLQ_MAXLEN = 100_000

Fields = Mapping[bytes, bytes]


class RedisIn(Service):
    """One consumer of the group on every input stream. `worker_id` must be the same after a restart."""

    def __init__(
        self, app: Any, outbox: Outbox, dead_letters: DeadLetters, settings: Settings, worker_id: str, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._app, self._outbox, self._dead_letters, self._settings = app, outbox, dead_letters, settings
        self._group, self._consumer = settings.vision_consumer_group, f"vision-worker-{worker_id}"
        self._redis = redis.Redis.from_url(
            settings.redis_url.get_secret_value(), socket_timeout=10, socket_connect_timeout=5
        )
        self.connected = False
        self._failures = 0  # in a row

    async def on_shutdown(self) -> None:
        await self._redis.aclose()

    @Service.task
    async def _relay_for_ever(self) -> None:
        while not self._stopping:
            try:
                await self._prepare()
                await self._relay()
            except LeftUnacked:
                return  # Kafka does not take what is held and the worker stops: it is relayed after the restart
            except (RedisError, OSError) as fault:
                self.connected = False
                metrics.RETRIES.labels(stage="redis").inc()
                log.warning("Redis is away; connecting again", error=repr(fault))
                await self.sleep(RECONNECT_SECONDS[min(self._failures, len(RECONNECT_SECONDS) - 1)])
                self._failures += 1
            except Exception:
                metrics.UNEXPECTED_ERRORS.labels(where="redis_in").inc()
                log.exception("unexpected error of the way in; going on")
                await self.sleep(RECONNECT_SECONDS[-1])

    @Service.task
    async def _measure_for_ever(self) -> None:
        while not self._stopping:
            try:
                await measure(self._redis, self._settings)
            except (RedisError, OSError) as fault:  # the relaying counts, tells and mends it
                log.debug("the input streams cannot be measured", error=repr(fault))
            await self.sleep(self._settings.vision_pending_check_interval)

    @property
    def _stopping(self) -> bool:
        return bool(self.should_stop or self._app.should_stop)

    def _keep_trying(self) -> bool:
        return not self._stopping

    async def _prepare(self) -> None:
        for stream in self._settings.input_streams:
            try:
                await self._redis.xgroup_create(stream, self._group, id="0", mkstream=True)
                log.info("Created consumer group", stream=stream, group=self._group)
            except ResponseError as fault:
                if "BUSYGROUP" not in str(fault):
                    raise
        self.connected = True

    async def _relay(self) -> None:
        """Until Redis fails: what this consumer left behind, then what others left behind, then what is new."""
        for stream in self._settings.input_streams:
            await self._take_over(stream, await self._own_pending(stream))
        claimed_at = 0.0
        while not self._stopping:
            if time.monotonic() - claimed_at >= self._settings.vision_pending_check_interval:
                claimed_at = time.monotonic()
                await self._claim_abandoned()
            streams: dict[Any, Any] = dict.fromkeys(self._settings.input_streams, ">")
            count = self._settings.vision_read_batch_size
            arrived = await self._redis.xreadgroup(self._group, self._consumer, streams, count=count, block=BLOCK_MS)
            self._failures = 0
            for stream, entries in arrived or []:
                await self._pass_on(stream.decode(), entries)

    # -- entries that were delivered before

    async def _own_pending(self, stream: str) -> list[bytes]:
        pending = await self._redis.xpending_range(
            stream, self._group, min="-", max="+", count=10_000, consumername=self._consumer
        )
        return [item["message_id"] for item in pending]

    async def _claim_abandoned(self) -> None:
        for stream in self._settings.input_streams:
            while not self._stopping:
                ids = await self._redis.xautoclaim(
                    stream,
                    self._group,
                    self._consumer,
                    min_idle_time=self._settings.vision_pel_min_idle_ms,
                    count=self._settings.vision_pel_batch_size,
                    justid=True,
                )
                await self._take_over(stream, ids)
                if len(ids) < self._settings.vision_pel_batch_size:
                    break

    async def _take_over(self, stream: str, ids: Sequence[bytes]) -> None:
        """Handle entries of our own pending list again; each counts as one more delivery."""
        if not ids:
            return
        delivered = await self._deliveries(stream, ids)
        exhausted = [entry for entry in ids if delivered.get(entry, 0) >= self._settings.vision_max_deliveries]
        for entry in exhausted:
            await self._give_up(stream, entry, delivered[entry])
        left: list[Any] = [entry for entry in ids if entry not in exhausted]
        if not left:
            return
        entries = [
            (entry, fields)
            for entry, fields in await self._redis.xclaim(stream, self._group, self._consumer, 0, left)
            if fields
        ]
        trimmed = set(left) - {entry for entry, _ in entries}
        if trimmed:
            metrics.REDIS_TRIMMED.inc(len(trimmed))
            log.error("pending entries were trimmed from the stream before they were read", entries=len(trimmed))
            await self._redis.xack(stream, self._group, *trimmed)
        await self._pass_on(stream, entries)

    async def _deliveries(self, stream: str, ids: Sequence[bytes]) -> dict[bytes, int]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for entry in ids:
                pipe.xpending_range(stream, self._group, min=entry, max=entry, count=1)
            found = await pipe.execute()
        return {item["message_id"]: int(item["times_delivered"]) for items in found for item in items}

    async def _give_up(self, stream: str, entry: bytes, deliveries: int) -> None:
        found = await self._redis.xrange(stream, min=entry, max=entry, count=1)
        fields = found[0][1] if found else {}
        log.error(
            "Message exceeded max deliveries, sending to DLQ", stream_id=entry.decode(), delivery_count=deliveries
        )
        metrics.EVENTS.labels(status="failed", reason="max_deliveries_exceeded").inc()
        await self._bury(stream, entry, fields, "max_deliveries_exceeded", "max deliveries exceeded", deliveries)
        await self._redis.xack(stream, self._group, entry)

    # -- handing over

    async def _pass_on(self, stream: str, entries: Sequence[tuple[bytes, Fields]]) -> None:
        """Relay a batch, and acknowledge it in one go when Kafka has all of it."""
        if not entries:
            return
        async with self._held(stream, [entry for entry, _ in entries]):
            results = await asyncio.gather(
                *(self._pass_on_one(stream, entry, fields) for entry, fields in entries), return_exceptions=True
            )
        done = [entry for (entry, _), result in zip(entries, results, strict=True) if result is None]
        if done:
            await self._redis.xack(stream, self._group, *done)
        for fault in results:
            if isinstance(fault, BaseException):
                raise fault

    async def _pass_on_one(self, stream: str, entry: bytes, fields: Fields) -> None:
        try:
            event = read_entry(fields, default_tenant=self._settings.s3_default_tenant_id, entry_id=entry.decode())
        except Unreadable as fault:
            await self._bury(stream, entry, fields, "unreadable", str(fault), 1)
            metrics.EVENTS.labels(status="failed", reason="parse_error").inc()
            return
        with bind(trace_id=event.trace_id, post_id=event.post_id, tenant_id=event.tenant_id):
            sourced = event.model_copy(update={"source_stream": stream, "source_entry_id": entry.decode()})
            headers = headers_of(event.trace_id, event.event_type, traceparent_for(event.trace_id))
            try:
                await self._outbox.deliver(
                    UPLOADED, event.key, sourced.encode(), headers, keep_trying=self._keep_trying
                )
            except Oversized as fault:
                await self._bury(stream, entry, fields, "oversized", str(fault), 1)
                return
            metrics.RELAYED.labels(stream=stream).inc()
            log.info("event relayed", stream=stream, stream_id=entry.decode())

    @contextlib.asynccontextmanager
    async def _held(self, stream: str, ids: Sequence[bytes]) -> AsyncIterator[None]:
        """While Kafka takes its time, keep others from claiming the entries; this counts as no delivery."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(self._settings.vision_pel_min_idle_ms / 3000)
                try:
                    await self._redis.xclaim(stream, self._group, self._consumer, 0, list(ids), justid=True)
                except (RedisError, OSError) as fault:
                    metrics.RETRIES.labels(stage="redis").inc()
                    log.warning("entries held for Kafka could not be renewed", error=repr(fault))

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _bury(self, stream: str, entry: bytes, fields: Fields, error: str, reason: str, deliveries: int) -> None:
        """Both dead letters, before the entry is acknowledged: the Redis stream others read, and ours in Kafka."""
        named = {_text(name): _text(value) for name, value in fields.items()}
        payload = named.get("data") or named.get("payload") or orjson.dumps(named).decode()
        trace_id = _trace_of(payload)
        await self._redis.xadd(
            self._settings.vision_dlq_stream,
            {
                "original_stream": stream,
                "original_message_id": entry.decode(),
                "error": reason,
                "delivery_count": deliveries,
                "max_deliveries": self._settings.vision_max_deliveries,
                "trace_id": trace_id,
                "data": payload,
            },
            maxlen=DLQ_MAXLEN,
            approximate=True,
        )
        letter = dead_letter(
            id=f"{stream}-{entry.decode()}",
            origin=stream,
            offset=entry.decode(),
            value=orjson.dumps(named),
            fault=reason,
            error=error,
            attempts=deliveries,
            trace_id=trace_id,
            first_seen_ms=int(entry.partition(b"-")[0]),
        )
        await self._dead_letters.put(letter, keep_trying=self._keep_trying)


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _trace_of(payload: str) -> str:
    try:
        event = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return ""
    return str(event.get("trace_id") or "") if isinstance(event, dict) else ""
