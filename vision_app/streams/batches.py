"""Writes a stream to a sink in batches. What arrives while one batch is written makes up the next.

A batch is acknowledged when the sink has it. While the sink is away, the batch waits un-acknowledged. Its topic waits
too; each sink has its own topic. Records that the sink rejects go to the dead letters; the others are written.

The flow is in one of the states of `BatchState`. A batch that fails for no known reason is tried TRIES times, then
record by record, and a record that fails alone goes to the dead letters. If even that fails, the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, NoReturn

import structlog

from vision_app.stores.base import Rejected, Sink, SinkUnavailable
from vision_app.telemetry import metrics, spans
from vision_app.telemetry.reachability import Reachability
from vision_app.telemetry.watch import Interrupted, Subject, Work, note_subjects, waiting_for

from .dead_letters import DeadLetters
from .faust_seams import Event, Stream, Worker, place_of, watch_of
from .last_resort import end_process
from .letter_ids import ids_in
from .ownership import LeftUnacked, becomes_ours, is_ours, of_this_generation, sleep_while_ours, while_ours
from .set_aside import set_aside
from .times import nth_pause

log = structlog.get_logger(__name__)

OPEN_SECONDS = 10.0
"""How long the worker's start waits for one store before it continues without it."""

BATCH_SIZE = 100
"""The most records that a sink is given at once."""

TRIES = 3
"""How often a batch is tried after unexpected errors, before its records are tried one by one."""


class BatchState(StrEnum):
    """What a flow is doing."""

    EMPTY = "empty"
    """There is no un-acknowledged event."""
    WRITING = "writing"
    """The store has been asked to take the batch, or it is being announced."""
    WAITING = "waiting"
    """The store is away; the batch is tried again after a pause, until the store is back."""
    ENDING = "ending"
    """A record that the store rejects is being dead-lettered."""
    LEFT = "left"
    """The batch is left un-acknowledged, because the worker stops or the partitions move. It is redelivered."""


class Batches:
    """Feeds one sink from one stream; call `run` as the body of an agent.

    `read` decodes one value. Of several records of one post, the sink decides which one counts. `written` is awaited
    with the records now in force, before the batch is acknowledged.
    """

    def __init__(
        self,
        app: Worker,
        sink: Sink[Any],
        read: Callable[[bytes | None], Any],
        dead_letters: DeadLetters,
        *,
        stage: str = "",
        size: int = BATCH_SIZE,
        written: Callable[[Sequence[Any], Callable[[], bool]], Awaitable[None]] | None = None,
        subject_of: Callable[[Any], Subject | None] = lambda _: None,
    ) -> None:
        self.app, self.sink = app, sink
        self._read, self._dead_letters, self._size = read, dead_letters, size
        self._written, self._subject_of = written, subject_of
        self._queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=size)
        self._open = False
        self.waiting_since: float | None = None
        self.state = BatchState.EMPTY
        self.batch: Sequence[Any] = ()  # events that are not acknowledged
        self._calls = Reachability(app.times.silent)
        self._stage = watch_of(app).stage(stage or f"sink-{sink.name}")
        self._stage.full = True  # as soon as it has a batch: later events wait for the next one

    @property
    def trouble(self) -> str | None:
        """Why the sink holds back its topic: unavailable, or no answer for a while. None: the sink works."""
        return "unavailable" if self.waiting_since else self._calls.trouble

    async def try_open(self) -> None:
        """Open the sink ahead of the first batch if its store answers; otherwise the first batch waits for it."""
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self.sink.open()
                self._open = True
        except (SinkUnavailable, TimeoutError) as fault:
            metrics.SINK_UNAVAILABLE.labels(sink=self.sink.name).inc()
            log.warning("sink_unavailable_at_start", sink=self.sink.name, error=str(fault))

    async def run(self, stream: Stream) -> None:
        stream = stream.noack()
        writer = asyncio.create_task(self._write_for_ever(stream))
        writer.add_done_callback(self._writer_ended)
        try:
            async for event in stream.events():
                await self._queue.put(event)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await self._close()

    def _writer_ended(self, writer: asyncio.Task[None]) -> None:
        """End the process if the writer ended without being cancelled: its topic would no longer be written."""
        if writer.cancelled() or self.app.should_stop:
            return
        self._end_process("a sink's writer ended", writer.exception())

    def _end_process(self, what: str, fault: BaseException | None) -> NoReturn:
        at = self.batch[0].message if self.batch else None
        place = {"topic": at.topic, "partition": at.partition, "offset": at.offset} if at else {}
        end_process(what, fault, sink=self.sink.name, **place)

    async def _write_for_ever(self, stream: Stream) -> None:
        while True:
            self.batch = ()
            self.state = BatchState.EMPTY
            events = [event for event in await self._arrived() if await becomes_ours(self.app, event)]
            if not events:
                continue
            self.batch = events
            if not await self._until_handled(events):
                continue
            for event in events:
                if of_this_generation(self.app, event):
                    await stream.ack(event)

    async def _until_handled(self, events: Sequence[Any]) -> bool:
        """True when the batch has ended, False if it will be redelivered. No later batch may be acknowledged before it:
        that acknowledgement would cover this batch too.
        """
        with self._handle_watched(events) as work:
            return await self._try_until_handled(events, work)

    async def _try_until_handled(self, events: Sequence[Any], work: Work) -> bool:
        failures = 0
        while True:
            try:
                with work.interruptible():
                    if failures < TRIES:
                        await self._handle(events)
                    else:
                        await self._handle_alone(events)
                return True
            except Interrupted:
                continue  # an operator has set one of its records aside
            except LeftUnacked:
                self.state = BatchState.LEFT
                if not await becomes_ours(self.app, events[-1]):
                    return False
            except asyncio.CancelledError as fault:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self._end_process("something that a sink waited for was cancelled", fault)
            except Exception as fault:
                metrics.UNEXPECTED_ERRORS.labels(where="sinks").inc()
                if failures >= TRIES and is_ours(self.app, events[-1]) and not self.app.should_stop:
                    self._end_process("a record's write and its dead letter failed", fault)
                log.exception("sink_batch_failed", sink=self.sink.name, records=len(events))
                failures += 1
            self.state = BatchState.WAITING
            try:
                await sleep_while_ours(self.app, events[-1], self.app.times.sink_retry[-1])
            except LeftUnacked:
                if not await becomes_ours(self.app, events[-1]):
                    return False

    async def _handle_alone(self, events: Sequence[Any]) -> None:
        """One record after the other. One that fails for no known reason is dead-lettered."""
        for event in events:
            try:
                await self._handle([event])
            except LeftUnacked:
                raise
            except Exception as fault:
                log.exception("sink_record_failed", sink=self.sink.name, **ids_in(event.value))
                await self._bury(event, fault)

    @contextlib.contextmanager
    def _handle_watched(self, events: Sequence[Any]) -> Iterator[Work]:
        ours = partial(of_this_generation, self.app, events[0])
        places = map(place_of, events)
        with (
            self._stage.work(*places, counts=ours) as work,
            waiting_for(self.sink.name, lambda: self.trouble is not None),
        ):
            yield work

    async def _arrived(self) -> list[Any]:
        events = [await self._queue.get()]
        while len(events) < self._size and not self._queue.empty():
            events.append(self._queue.get_nowait())
        return events

    async def _handle(self, events: Sequence[Any]) -> None:
        pairs = []
        for event in events:
            if (fault := set_aside(self.app, event)) is not None:
                await self._bury(event, fault)
                continue
            try:
                pairs.append((event, self._read(event.value)))
            except (ValueError, KeyError, TypeError) as unreadable:
                await self._bury(event, unreadable)
        note_subjects(*(about for _, record in pairs if (about := self._subject_of(record)) is not None))
        await self._write(pairs)

    async def _write(self, pairs: list[tuple[Any, Any]]) -> None:
        if not pairs:
            return
        attempt, last = 0, pairs[-1][0]
        while pairs:
            self.state = BatchState.WRITING
            try:
                started = time.monotonic()
                with self._calls.call():
                    in_force = await while_ours(self.app, last, self._try([record for _, record in pairs]))
                metrics.SINK_DURATION.labels(sink=self.sink.name).observe(time.monotonic() - started)
                self._works()
                with spans.written(self.sink, pairs, started, attempt):
                    if self._written is not None:
                        await self._written(in_force, partial(is_ours, self.app, last))
            except SinkUnavailable as fault:
                await self._wait(last, attempt, fault)
                attempt += 1
                continue
            except Rejected as fault:
                event, _ = pairs.pop(fault.index)
                metrics.SINK_REJECTED.labels(sink=self.sink.name).inc()
                await self._bury(event, fault)
                continue
            except LeftUnacked:
                raise
            except Exception as fault:  # noqa: BLE001 - logged and counted in _one_by_one; the sink continues
                await self._one_by_one(pairs, fault)
                return
            metrics.SINK_WRITTEN.labels(sink=self.sink.name).inc(len(pairs))
            return

    async def _one_by_one(self, pairs: list[tuple[Any, Any]], fault: Exception) -> None:
        """After an unexpected error: find the record that causes it, and write the others."""
        metrics.UNEXPECTED_ERRORS.labels(where="sinks").inc()
        log.error("sink_failed", sink=self.sink.name, records=len(pairs), exc_info=fault)
        if len(pairs) == 1:
            await self._bury(pairs[0][0], fault)
            return
        for pair in pairs:
            await self._write([pair])

    async def _try(self, records: Sequence[Any]) -> Sequence[Any]:
        if not self._open:
            await self._open_sink()
            self._open = True
        return await self.sink.write(records)

    async def _open_sink(self) -> None:
        try:
            await self.sink.open()
        except SinkUnavailable:
            raise
        except Exception as fault:
            metrics.UNEXPECTED_ERRORS.labels(where="sinks").inc()
            log.exception("sink_open_failed", sink=self.sink.name)
            raise SinkUnavailable(f"not opened: {fault!r}") from fault  # no record is the cause

    async def _close(self) -> None:
        if not self._open:
            return
        self._open = False
        try:
            await self.sink.close()
        except Exception as fault:  # noqa: BLE001 - the worker stops; nothing depends on it any more
            log.warning("sink_close_failed", sink=self.sink.name, error=repr(fault))

    def _works(self) -> None:
        metrics.SINK_WAITING.labels(sink=self.sink.name).set(0)
        self.waiting_since = None

    async def _wait(self, event: Event, attempt: int, fault: SinkUnavailable) -> None:
        self.state = BatchState.WAITING
        self.waiting_since = self.waiting_since or time.time()
        metrics.SINK_UNAVAILABLE.labels(sink=self.sink.name).inc()
        metrics.SINK_WAITING.labels(sink=self.sink.name).set(1)
        log.warning("sink_unavailable", sink=self.sink.name, error=str(fault), attempt=attempt + 1)
        await sleep_while_ours(self.app, event, nth_pause(self.app.times.sink_retry, attempt))

    async def _bury(self, event: Event, fault: BaseException) -> None:
        self.state = BatchState.ENDING
        spans.not_written(self.sink, event, fault)
        await self._dead_letters.put_event(event, fault, keep_trying=lambda: is_ours(self.app, event))
