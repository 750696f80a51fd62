"""Writing a stream to a sink in batches: whatever has arrived while the last batch was written is the next one.

A batch is acknowledged when the sink has it. While the sink is away the batch waits, un-acknowledged, and with it the
topic: one sink, one topic. What the sink will never take goes to the dead letters and the rest goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import structlog

from vision_app.stores.base import Rejected, Sink, SinkUnavailable
from vision_app.telemetry import metrics
from vision_app.telemetry.reachability import Reachability
from vision_app.telemetry.watch import Interrupted, Work, place_of, waiting_for, watch_of

from .dead_letters import DeadLetters
from .ownership import LeftUnacked, becomes_ours, is_ours, of_this_generation, sleep_while_ours, while_ours
from .set_aside import set_aside

log = structlog.get_logger(__name__)

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)

OPEN_SECONDS = 10.0
"""How long a start waits for one store before it goes on without it."""


class Batches:
    """Feeds one sink from one stream; call `run` as the body of an agent.

    `read` decodes one value. Which of several records of one post counts is the sink's to decide. `written` is awaited
    with the records now in force, before the batch is acknowledged.
    """

    def __init__(
        self,
        app: Any,
        sink: Sink[Any],
        read: Callable[[bytes | None], Any],
        dead_letters: DeadLetters,
        *,
        stage: str = "",
        size: int = 100,
        written: Callable[[Sequence[Any], Callable[[], bool]], Awaitable[None]] | None = None,
    ) -> None:
        self.app, self.sink = app, sink
        self._read, self._dead_letters, self._size = read, dead_letters, size
        self._written = written
        self._queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=size)
        self._open = False
        self.waiting_since: float | None = None
        self._calls = Reachability()
        self._stage = watch_of(app).stage(stage or f"sink-{sink.name}")
        self._stage.full = True  # with the batch in hand: what comes meanwhile is the next one

    @property
    def trouble(self) -> str | None:
        """Why the sink holds back its topic: it refuses, or has not answered for a while; None: it does not."""
        return "unavailable" if self.waiting_since else self._calls.trouble

    async def try_open(self) -> None:
        """Open the sink ahead of the first batch if its store answers; otherwise the first batch waits for it."""
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self.sink.open()
                self._open = True
        except (SinkUnavailable, TimeoutError) as fault:
            metrics.SINK_UNAVAILABLE.labels(sink=self.sink.name).inc()
            log.warning("sink unavailable at start; its first batch will wait", sink=self.sink.name, error=str(fault))

    async def run(self, stream: Any) -> None:
        stream = stream.noack()
        writer = asyncio.create_task(self._write_for_ever(stream))
        try:
            async for event in stream.events():
                await self._queue.put(event)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await self._close()

    async def _write_for_ever(self, stream: Any) -> None:
        while True:
            events = [event for event in await self._arrived() if await becomes_ours(self.app, event)]
            if not events:
                continue
            try:
                await self._until_handled(events)
            except LeftUnacked:
                continue
            for event in events:
                if of_this_generation(self.app, event):
                    await stream.ack(event)

    async def _until_handled(self, events: Sequence[Any]) -> None:
        """Not even an error of our own may let the next batch pass: its acknowledgement would cover this one."""
        with self._watched(events) as work:
            await self._try_until_handled(events, work)

    async def _try_until_handled(self, events: Sequence[Any], work: Work) -> None:
        while True:
            try:
                with work.interruptible():
                    await self._handle(events)
                return
            except Interrupted:
                continue  # one of them is set aside now
            except LeftUnacked:
                raise
            except Exception:
                metrics.UNEXPECTED_ERRORS.labels(where="sinks").inc()
                log.exception("unexpected error; the batch is tried again", sink=self.sink.name, records=len(events))
            await sleep_while_ours(self.app, events[-1], RETRY_SECONDS[-1])

    @contextlib.contextmanager
    def _watched(self, events: Sequence[Any]) -> Iterator[Work]:
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
        await self._write(pairs)

    async def _write(self, pairs: list[tuple[Any, Any]]) -> None:
        if not pairs:
            return
        attempt, last = 0, pairs[-1][0]
        while pairs:
            try:
                started = time.monotonic()
                with self._calls.call():
                    in_force = await while_ours(self.app, last, self._try([record for _, record in pairs]))
                metrics.SINK_DURATION.labels(sink=self.sink.name).observe(time.monotonic() - started)
                self._works()
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
            except Exception as fault:  # noqa: BLE001 - logged and counted there; the sink goes on
                await self._one_by_one(pairs, fault)
                return
            metrics.SINK_WRITTEN.labels(sink=self.sink.name).inc(len(pairs))
            return

    async def _one_by_one(self, pairs: list[tuple[Any, Any]], fault: Exception) -> None:
        """An error nobody planned for: find the record that causes it, and let the others through."""
        metrics.UNEXPECTED_ERRORS.labels(where="sinks").inc()
        log.error("unexpected error of a sink", sink=self.sink.name, records=len(pairs), exc_info=fault)
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
            log.exception("a sink cannot be opened", sink=self.sink.name)
            raise SinkUnavailable(f"not opened: {fault!r}") from fault  # no record is to blame

    async def _close(self) -> None:
        if not self._open:
            return
        self._open = False
        try:
            await self.sink.close()
        except Exception as fault:  # noqa: BLE001 - the worker stops; nothing depends on it any more
            log.warning("a sink did not close", sink=self.sink.name, error=repr(fault))

    def _works(self) -> None:
        metrics.SINK_WAITING.labels(sink=self.sink.name).set(0)
        self.waiting_since = None

    async def _wait(self, event: Any, attempt: int, fault: SinkUnavailable) -> None:
        self.waiting_since = self.waiting_since or time.time()
        metrics.SINK_UNAVAILABLE.labels(sink=self.sink.name).inc()
        metrics.SINK_WAITING.labels(sink=self.sink.name).set(1)
        log.warning("sink unavailable; the batch waits", sink=self.sink.name, error=str(fault), attempt=attempt + 1)
        await sleep_while_ours(self.app, event, RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])

    async def _bury(self, event: Any, fault: BaseException) -> None:
        await self._dead_letters.put_event(event, fault, keep_trying=lambda: is_ours(self.app, event))
