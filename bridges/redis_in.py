"""The way in: entries of the Redis input streams are relayed into Kafka, and acknowledged when Kafka has them.

An entry is acknowledged in Redis only after Kafka acknowledged its record, so none is lost. After a crash in between,
it is relayed again, and the posts actor recognises it. Deliveries are counted by Redis itself: an entry that was
delivered VISION_MAX_DELIVERIES times before goes to the dead letters without being tried again.

While a tenant has too many unfinished posts (`unfinished.py`), its entries are held here; tenants take turns
(`fair_queue.py`). Held entries stay pending in Redis. They are renewed so that no other worker claims them, which does
not count as a delivery. Beyond `read_ahead_bytes` only the ids are held; the entries are read again when their turn
comes.

An entry ends in Kafka or among the dead letters, and never blocks other entries: both dead letters have a form that
always fits. If a dead letter still fails, for a reason that is not in the entry, the process ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson
import structlog
from mode import Service
from redis.exceptions import RedisError, ResponseError

from vision_app.clients.redis import check_server, redis_client, redis_fault
from vision_app.events import Unreadable, entry_value
from vision_app.messages import headers_of
from vision_app.settings import Settings
from vision_app.streams.dead_letters import DeadLetters, Origin, dead_letter
from vision_app.streams.faust_seams import Worker, watch_of
from vision_app.streams.last_resort import end_process
from vision_app.streams.outbox import Outbox, Oversized
from vision_app.streams.ownership import LeftUnacked
from vision_app.streams.set_aside import SetAside, marks_of
from vision_app.streams.times import nth_pause
from vision_app.telemetry import metrics, spans
from vision_app.telemetry.logging import bind
from vision_app.telemetry.watch import Interrupted, RecordPlace, Work, waiting_for
from vision_app.topics import UPLOADED

from .backlog import measure
from .entry_content import EntryContent, Fields, ids_of_entry, read_content
from .fair_queue import FairQueue, Held
from .reply_size import READ_BYTES, ReplySize, size_of
from .unfinished import Unfinished, UnfinishedLimits

log = structlog.get_logger(__name__)

STAGE = "redis_in"
HELD_BLOCK_MS = 10  # while entries are held that may not be relayed yet
READ_AHEAD = 10_000  # entries held; other tenants behind a flood of this length are still found
READ_AHEAD_SECONDS = 0.2  # of reading, then held entries are relayed
RENEW_BATCH = 500
DLQ_MAXLEN = 100_000
DLQ_DATA_BYTES = 512 * 1024  # of an entry that the Redis dead-letter stream keeps; the entry has at most 520 kB
DLQ_TEXT_CHARS = 2000  # of each other field there
ROUNDS_FAILED = 5  # in a row, by unexpected errors; then the process ends


@dataclass(frozen=True)
class RedisInLimits:
    """How much is read and held, and how long the way in waits.

    `block_ms`: how long Redis waits for new entries. `read_ahead_bytes`: of the content of held entries in memory; an
    entry without it takes half a kilobyte. `read_bytes`: of one reply, and of the entries relayed together.
    `reconnect_seconds`: the n-th pause while Redis is away; the last one repeats.
    """

    block_ms: int = 1000
    read_ahead_bytes: int = 32 * 1024 * 1024
    read_bytes: int = READ_BYTES
    reconnect_seconds: Sequence[float] = (0.2, 0.5, 1.0, 2.0, 5.0)
    unfinished: UnfinishedLimits = field(default_factory=UnfinishedLimits)


class RoundState(StrEnum):
    """What the way in is doing."""

    CONNECTING = "connecting"
    """It asks Redis for the groups and the pending entries, or waits to ask again because Redis is away."""
    READING = "reading"
    """It waits for new entries; held entries wait for their tenant's turn."""
    RELAYING = "relaying"
    """It sends a batch to Kafka and acknowledges it in Redis."""
    FAILED = "failed"
    """A round failed unexpectedly; the next begins after a pause. After ROUNDS_FAILED in a row the process ends."""


class RedisIn(Service):
    """One consumer of the group on every input stream. `worker_id` must be the same after a restart.

    `service_is_away` says whether a service is away that posts need to be announced.
    """

    def __init__(
        self,
        app: Worker,
        outbox: Outbox,
        dead_letters: DeadLetters,
        settings: Settings,
        worker_id: str,
        service_is_away: Callable[[], bool],
        limits: RedisInLimits | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._app, self._outbox, self._dead_letters, self._settings = app, outbox, dead_letters, settings
        self._group, self._consumer = settings.vision_consumer_group, f"vision-worker-{worker_id}"
        self._redis = redis_client(settings, timeout=10, connect_timeout=5)
        self.connected = False
        self.trouble = ""  # why it is not connected
        self._waiting = FairQueue()
        self._limits = limits or RedisInLimits()
        self.unfinished = Unfinished(self._redis, service_is_away, self._limits.unfinished)
        self._held: dict[str, set[bytes]] = defaultdict(set)  # waiting or being relayed, by stream
        self._reply = ReplySize(settings.vision_read_batch_size, self._limits.read_bytes)
        self._failures = 0  # in a row
        self._unexpected_failures = 0  # unexpected failures in a row
        self.round_state = RoundState.CONNECTING
        self._streams = [RecordPlace(stream) for stream in settings.input_streams]
        self._round = Work(STAGE, self._streams, lambda: True)

    async def on_shutdown(self) -> None:
        await self._redis.aclose()

    @Service.task
    async def _relay_for_ever(self) -> None:
        with watch_of(self._app).stage(STAGE).work(*self._streams) as self._round:
            await self._relay_until_stopped()

    async def _relay_until_stopped(self) -> None:
        while not self._stopping:
            self.round_state = RoundState.CONNECTING
            try:
                await self._prepare()
                await self._relay()
            except LeftUnacked:
                return  # Kafka takes no records and the worker stops: held entries are relayed after the restart
            except (RedisError, OSError) as fault:
                self.round_state = RoundState.CONNECTING
                self.connected, self.trouble = False, redis_fault(fault, self._settings)
                metrics.RETRIES.labels(stage="redis").inc()
                log.warning("redis_reconnecting", error=self.trouble)
                with waiting_for("redis"):
                    await self.sleep(nth_pause(self._limits.reconnect_seconds, self._failures))
                self._failures += 1
            except Exception as fault:
                metrics.UNEXPECTED_ERRORS.labels(where="redis_in").inc()
                self.round_state = RoundState.FAILED
                self._unexpected_failures += 1
                if self._unexpected_failures >= ROUNDS_FAILED and not self._stopping:
                    end_process("the way in cannot go on", fault, streams=list(self._settings.input_streams))
                log.exception("redis_in_failed", in_a_row=self._unexpected_failures)
                await self.sleep(self._limits.reconnect_seconds[-1])

    @Service.task
    async def _measure_for_ever(self) -> None:
        while not self._stopping:
            try:
                await measure(self._redis, self._settings)
            except (RedisError, OSError) as fault:  # the relaying counts it, logs it and reconnects
                log.debug("input_streams_not_measured", error=repr(fault))
            await self.sleep(self._settings.vision_pending_check_interval)

    @property
    def _stopping(self) -> bool:
        return bool(self.should_stop or self._app.should_stop)

    def _keep_trying(self) -> bool:
        return not self._stopping

    async def _prepare(self) -> None:
        """Make the groups. While a right is missing nothing is tried, and so no entry is given up."""
        await check_server(self._redis, self._settings)
        for stream in self._settings.input_streams:
            try:
                await self._redis.xgroup_create(stream, self._group, id="0", mkstream=True)
                log.info("consumer_group_created", stream=stream, group=self._group)
            except ResponseError as fault:
                if "BUSYGROUP" not in str(fault):
                    raise
        self.connected = True

    async def _relay(self) -> None:
        """Relay until Redis fails: first this consumer's pending entries, then those of others, then new ones."""
        self._waiting.clear()
        self._held.clear()
        self.unfinished.clear()
        for stream in self._settings.input_streams:
            await self._take_over(stream, await self._own_pending(stream))
        claimed_at, batch = 0.0, list[Held]()
        while not self._stopping:
            if time.monotonic() - claimed_at >= self._settings.vision_pending_check_interval:
                claimed_at = time.monotonic()
                await self._claim_abandoned()
            self.round_state = RoundState.READING
            await self._read_ahead(more_expected=bool(batch))
            await self.unfinished.refresh()
            batch = list(self._next_batch())
            if batch:
                self.round_state = RoundState.RELAYING
            await self._relay_batch(batch)
            metrics.READ_AHEAD_BYTES.set(self._waiting.held_bytes)
            self._unexpected_failures = 0
            self._round.note_progress(*self._streams)

    def _next_batch(self) -> Iterator[Held]:
        room = self._limits.read_bytes
        for _ in range(self._settings.vision_read_batch_size):
            if room <= 0:
                return
            held = self._waiting.take(self.unfinished.has_room)
            if held is None:
                return
            if held.tenant_id:
                self.unfinished.add(held.tenant_id, held.post_id)
            room -= held.size_bytes
            yield held

    async def _read_ahead(self, more_expected: bool) -> None:
        """Read new entries for READ_AHEAD_SECONDS: a tenant gets a turn only when its entries have been read."""
        until = time.monotonic() + READ_AHEAD_SECONDS
        while await self._read(more_expected) and time.monotonic() < until:
            more_expected = True

    async def _read(self, more_expected: bool) -> bool:
        """Read and hold new entries, one reply of Redis, up to READ_AHEAD. Returns whether more may be there already.

        Blocks long for new entries only while nothing is held.
        """
        block: int | None = self._limits.block_ms
        if self._waiting:
            block = None if more_expected else HELD_BLOCK_MS
        if len(self._waiting) >= READ_AHEAD:
            await self.sleep(HELD_BLOCK_MS / 1000)
            return False
        streams: dict[Any, Any] = dict.fromkeys(self._settings.input_streams, ">")
        count = self._reply.count
        arrived = await self._redis.xreadgroup(self._group, self._consumer, streams, count=count, block=block)
        self._failures = 0
        self._reply.note(size_of(fields) for _, entries in arrived or [] for _, fields in entries)
        for stream, entries in arrived or []:
            for entry, fields in entries:
                self._hold(stream.decode(), entry, fields, attempt=True)
        return any(len(entries) == count for _, entries in arrived or [])

    def _hold(self, stream: str, entry: bytes, fields: Fields, attempt: bool) -> None:
        if entry in self._held[stream]:
            return
        self._held[stream].add(entry)
        content = self._read_content(stream, entry, fields)
        record = content.record
        # An unreadable entry has no tenant; it is dead-lettered when its turn comes.
        tenant_and_post = ("", "") if isinstance(record, Unreadable) else (record.tenant_id, record.post_id)
        kept = content if self._waiting.held_bytes + content.size_bytes <= self._limits.read_ahead_bytes else None
        self._waiting.put(Held(stream, entry, kept, *tenant_and_post, attempt, size_of(fields)))

    def _read_content(self, stream: str, entry: bytes, fields: Fields) -> EntryContent:
        return read_content(stream, entry, fields, self._settings.s3_default_tenant_id)

    @Service.task
    async def _renew_for_ever(self) -> None:
        """Renew held entries, so that no other worker claims them. This does not count as a delivery."""
        while not self._stopping:
            await self.sleep(self._settings.vision_pel_min_idle_ms / 3000)
            try:
                await self._renew()
            except (RedisError, OSError) as fault:
                metrics.RETRIES.labels(stage="redis").inc()
                log.warning("held_entries_not_renewed", error=redis_fault(fault, self._settings))

    async def _renew(self) -> None:
        for stream, held in list(self._held.items()):
            ids: list[Any] = list(held)
            for start in range(0, len(ids), RENEW_BATCH):
                batch = ids[start : start + RENEW_BATCH]
                await self._redis.xclaim(stream, self._group, self._consumer, 0, batch, justid=True)

    # -- entries that were delivered before

    async def _own_pending(self, stream: str) -> list[bytes]:
        pending = await self._redis.xpending_range(
            stream, self._group, min="-", max="+", count=READ_AHEAD, consumername=self._consumer
        )
        return [item["message_id"] for item in pending]

    async def _claim_abandoned(self) -> None:
        for stream in self._settings.input_streams:
            while not self._stopping and await self._claim_batch(stream) == self._settings.vision_pel_batch_size:
                continue

    async def _claim_batch(self, stream: str) -> int:
        """Claim abandoned entries. XAUTOCLAIM scans only ten times the batch from its start; more may be held there."""
        idle, count = self._settings.vision_pel_min_idle_ms, self._settings.vision_pel_batch_size
        abandoned = await self._redis.xpending_range(stream, self._group, min="-", max="+", count=count, idle=idle)
        ids: list[Any] = [item["message_id"] for item in abandoned]
        if ids:
            claimed = await self._redis.xclaim(stream, self._group, self._consumer, idle, ids, justid=True)
            await self._take_over(stream, claimed)
            await self._count_trimmed_unclaimed(stream, [entry for entry in ids if entry not in claimed])
        return len(ids)

    async def _count_trimmed_unclaimed(self, stream: str, unclaimed: Sequence[bytes]) -> None:
        """Entries that XCLAIM did not return: another worker was quicker, or they were trimmed. Count the trimmed ones.

        From Redis 7 on, XCLAIM drops trimmed entries from the pending list.
        """
        if unclaimed:
            found = await self._read_fields(stream, unclaimed)
            self._count_trimmed([entry for entry in unclaimed if entry not in found])

    def _count_trimmed(self, entries: Sequence[bytes]) -> None:
        if entries:
            metrics.REDIS_TRIMMED.inc(len(entries))
            log.error("pending_entries_trimmed", entries=len(entries))

    async def _take_over(self, stream: str, ids: Sequence[bytes]) -> None:
        """Hold entries of our own pending list again, and dead-letter those that were delivered too often."""
        done = 0
        while done < len(ids):
            batch = ids[done : done + self._reply.count]
            await self._take_over_batch(stream, batch)
            done += len(batch)

    async def _take_over_batch(self, stream: str, ids: Sequence[bytes]) -> None:
        delivered = await self._deliveries(stream, ids)
        exhausted = [entry for entry in ids if delivered.get(entry, 0) >= self._settings.vision_max_deliveries]
        for entry in exhausted:
            await self._bury_exhausted(stream, entry, delivered[entry])
        left = [entry for entry in ids if entry not in exhausted]
        found = await self._read_fields(stream, left)
        self._reply.note(map(size_of, found.values()))
        for entry, fields in found.items():
            self._hold(stream, entry, fields, attempt=False)
        await self._acknowledge_trimmed(stream, [entry for entry in left if entry not in found])

    async def _acknowledge_trimmed(self, stream: str, entries: Sequence[bytes]) -> None:
        if entries:
            self._count_trimmed(entries)
            await self._redis.xack(stream, self._group, *entries)
            self._held[stream] -= set(entries)

    async def _read_fields(self, stream: str, ids: Sequence[bytes]) -> dict[bytes, Fields]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for entry in ids:
                pipe.xrange(stream, min=entry, max=entry, count=1)
            found = await pipe.execute()
        return {entry: fields for entries in found for entry, fields in entries}

    async def _deliveries(self, stream: str, ids: Sequence[bytes]) -> dict[bytes, int]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for entry in ids:
                pipe.xpending_range(stream, self._group, min=entry, max=entry, count=1)
            found = await pipe.execute()
        return {item["message_id"]: int(item["times_delivered"]) for items in found for item in items}

    async def _bury_exhausted(self, stream: str, entry: bytes, deliveries: int) -> None:
        found = await self._redis.xrange(stream, min=entry, max=entry, count=1)
        fields = found[0][1] if found else {}
        where = {"stream_id": entry.decode(), "delivery_count": deliveries}
        log.error("max_deliveries_exceeded", **where, **ids_of_entry(fields))
        metrics.EVENTS.labels(status="failed", reason="max_deliveries_exceeded").inc()
        await self._bury(stream, entry, fields, "max_deliveries_exceeded", "max deliveries exceeded", deliveries)
        await self._redis.xack(stream, self._group, entry)

    # -- handing over

    async def _relay_batch(self, batch: Sequence[Held]) -> None:
        """Relay a batch, and acknowledge per stream what Kafka has. Raises the first failure after that."""
        for stream, again in _by_stream([held for held in batch if not held.attempt]).items():
            await self._redis.xclaim(stream, self._group, self._consumer, 0, again)  # counts the delivery
        whole = await self._with_content(batch)
        results = await asyncio.gather(
            *(self._relay_watched(held.stream, held.entry_id, content) for held, content in whole),
            return_exceptions=True,
        )
        done = [held for (held, _), result in zip(whole, results, strict=True) if result is None]
        for stream, ids in _by_stream(done).items():
            await self._redis.xack(stream, self._group, *ids)
            self._held[stream] -= set(ids)
        failed = (held for (held, _), result in zip(whole, results, strict=True) if result is not None)
        left = [_place_of_entry(held.stream, held.entry_id) for held in failed]
        self._round.places = left or self._round.places  # the watch names these if they keep failing
        for fault in results:
            if isinstance(fault, BaseException):
                raise fault

    async def _with_content(self, batch: Sequence[Held]) -> list[tuple[Held, EntryContent]]:
        """The batch with its entries' content. What is not held is read again; trimmed entries are left out."""
        found: dict[tuple[str, bytes], EntryContent] = {}
        for stream, ids in _by_stream([held for held in batch if held.content is None]).items():
            read = await self._read_fields(stream, ids)
            found |= {(stream, entry): self._read_content(stream, entry, fields) for entry, fields in read.items()}
            await self._acknowledge_trimmed(stream, [entry for entry in ids if entry not in read])
        contents = ((held, held.content or found.get((held.stream, held.entry_id))) for held in batch)
        return [(held, content) for held, content in contents if content is not None]

    async def _relay_or_bury(self, stream: str, entry: bytes, content: EntryContent) -> None:
        """Relay or dead-letter an entry. Raises only LeftUnacked and Redis' errors."""
        try:
            await self._relay_entry(stream, entry, content)
        except (LeftUnacked, RedisError, OSError):
            raise
        except Exception as fault:
            metrics.UNEXPECTED_ERRORS.labels(where="redis_in").inc()
            where = {"stream": stream, "stream_id": entry.decode()}
            log.exception("entry_relay_failed", **where, **ids_of_entry(content.fields))
            await self._bury(stream, entry, content.fields, "unexpected", f"{type(fault).__name__}: {fault}", 1)

    async def _relay_watched(self, stream: str, entry: bytes, content: EntryContent) -> None:
        with watch_of(self._app).stage(STAGE).work(_place_of_entry(stream, entry)) as work:
            try:
                with work.interruptible():
                    await self._relay_or_bury(stream, entry, content)
            except Interrupted:
                await self._relay_or_bury(stream, entry, content)  # an operator has set it aside

    async def _relay_entry(self, stream: str, entry: bytes, content: EntryContent) -> None:
        record, fields = content.record, content.fields
        marks = marks_of(self._app)
        if marks is not None and (reason := marks.reason_at(_place_of_entry(stream, entry))) is not None:
            await self._bury(stream, entry, fields, SetAside.__name__, reason, 1)
            return
        if isinstance(record, Unreadable):
            await self._bury(stream, entry, fields, "unreadable", str(record), 1)
            metrics.EVENTS.labels(status="failed", reason="parse_error").inc()
            return
        ids = {"trace_id": record.trace_id, "post_id": record.post_id, "tenant_id": record.tenant_id}
        with spans.relayed(record, stream, entry.decode()), bind(**ids):
            headers = headers_of(record.trace_id, record.event_type, spans.traceparent_about(record))
            try:
                await self._outbox.deliver(UPLOADED, record.key, record.value, headers, keep_trying=self._keep_trying)
            except Oversized as fault:
                await self._bury(stream, entry, fields, "oversized", str(fault), 1)
                return
            metrics.RELAYED.labels(stream=stream).inc()
            log.info("entry_relayed", stream=stream, stream_id=entry.decode())

    async def _bury(self, stream: str, entry: bytes, fields: Fields, error: str, reason: str, deliveries: int) -> None:
        """Write both dead letters, before the entry is acknowledged: on the Redis stream for others, and in Kafka.

        Raises only LeftUnacked and Redis' errors; any other failure ends the process.
        """
        try:
            kept = entry_value(fields)
            payload = fields.get(b"data") or fields.get(b"payload") or kept
            trace_id = _trace_of(payload)
            dead: dict[Any, Any] = {
                "original_stream": stream,
                "original_message_id": entry.decode(),
                "error": reason[:DLQ_TEXT_CHARS],
                "delivery_count": deliveries,
                "max_deliveries": self._settings.vision_max_deliveries,
                "trace_id": trace_id[:DLQ_TEXT_CHARS],
                **_payload_fields(payload),
            }
            await self._redis.xadd(self._settings.vision_dlq_stream, dead, maxlen=DLQ_MAXLEN, approximate=True)
            origin = Origin(
                id=f"{stream}-{entry.decode()}",
                name=stream,
                offset=entry.decode(),
                first_seen_ms=int(entry.partition(b"-")[0]),
            )
            letter = dead_letter(origin, kept, reason, error=error, attempts=deliveries, trace_id=trace_id)
            await self._dead_letters.put(letter, keep_trying=self._keep_trying)
        except (LeftUnacked, RedisError, OSError):
            raise
        except Exception as fault:
            if self._stopping:
                raise LeftUnacked from fault
            end_process("a dead letter failed", fault, stream=stream, stream_id=entry.decode())


def _payload_fields(payload: bytes) -> dict[Any, Any]:
    """The payload for the Redis dead-letter stream. If it is too large: its start, and size and hash of the whole."""
    if len(payload) <= DLQ_DATA_BYTES:
        return {"data": payload}
    whole = {"data_bytes": len(payload), "data_sha256": hashlib.sha256(payload).hexdigest()}
    return {"data": payload[:DLQ_DATA_BYTES], **whole}


def _place_of_entry(stream: str, entry: bytes) -> RecordPlace:
    return RecordPlace(stream, None, entry.decode())


def _by_stream(batch: Iterable[Held]) -> dict[str, list[Any]]:
    ids: dict[str, list[Any]] = defaultdict(list)
    for held in batch:
        ids[held.stream].append(held.entry_id)
    return ids


def _trace_of(payload: bytes) -> str:
    try:
        event = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return ""
    return str(event.get("trace_id") or "") if isinstance(event, dict) else ""
