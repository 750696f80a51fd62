"""Bounded concurrent handling of a stream with acknowledgements in order.

An event is acknowledged only when it and every earlier event of the same partition and generation has finished, so
what Faust commits never covers unfinished work. Order of handling is given up; order of commits is not.
`limit` bounds handlers running at once, `window` bounds finished-but-unacknowledged plus running events, and with it
memory and what is handled again after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import structlog

from vision_app.messages import DeadLetter, Message
from vision_app.telemetry import metrics
from vision_app.telemetry.watch import Work, place_of, watch_of

from .dead_letters import DeadLetters
from .ownership import POLL_SECONDS, LeftUnacked, becomes_ours, is_ours, of_this_generation
from .set_aside import SetAside, unless_set_aside

log = structlog.get_logger(__name__)

Handler = Callable[[Any], Awaitable[None]]
Companions = Callable[[Any, DeadLetter], Iterable[Message]]


class _Slot:
    """One event between its arrival and its acknowledgement."""

    __slots__ = ("done", "event")

    def __init__(self, event: Any) -> None:
        self.event = event
        self.done = False


class InFlight:
    """Runs `handler` on up to `limit` events at once; call `run` as the body of an agent.

    A handler that returns has finished; one that raises LeftUnacked leaves its event to be delivered again; any other
    exception dead-letters the event, together with the messages that `companions` makes of it.
    """

    def __init__(
        self,
        app: Any,
        name: str,
        handler: Handler,
        dead_letters: DeadLetters,
        *,
        limit: int,
        window: int | None = None,
        companions: Companions = lambda event, letter: (),
    ) -> None:
        self.app, self.name = app, name
        self._handler, self._dead_letters, self._companions = handler, dead_letters, companions
        self._limit, self._window = limit, window or limit * 8
        self._queues: dict[tuple[Any, int], deque[_Slot]] = defaultdict(deque)
        self._running: set[asyncio.Task[None]] = set()
        self._moved = asyncio.Event()
        self._stream: Any = None
        self._stage = watch_of(app).stage(name)

    async def run(self, stream: Any) -> None:
        self._stream = stream.noack()
        try:
            async for event in self._stream.events():
                await self._room()
                if not await becomes_ours(self.app, event):
                    continue  # un-acknowledged: it comes again
                self._begin(event)
        finally:
            if self.app.should_stop:
                await self._end_all()

    async def drain(self, seconds: float) -> None:
        """Wait up to `seconds` for the handlers that run; those that wait for something leave by themselves."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=seconds)

    @property
    def running(self) -> int:
        return len(self._running)

    def _begin(self, event: Any) -> None:
        slot, key = _Slot(event), (event.message.tp, event.message.generation_id)
        self._queues[key].append(slot)
        task = asyncio.create_task(self._watched(key, slot))
        self._running.add(task)
        metrics.INFLIGHT.labels(agent=self.name).set(len(self._running))
        task.add_done_callback(self._ended)

    async def _end_all(self) -> None:
        """Cut off what still runs when the worker stops: the producer goes next, and nothing could be sent."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _room(self) -> None:
        while True:
            self._drop_lost_generations()
            self._stage.full = len(self._running) >= self._limit or sum(map(len, self._queues.values())) >= self._window
            if not self._stage.full:
                return
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):  # not wait_for: Python 3.11's may swallow a cancellation
                    await self._moved.wait()

    async def _watched(self, key: tuple[Any, int], slot: _Slot) -> None:
        ours = partial(of_this_generation, self.app, slot.event)
        with self._stage.work(place_of(slot.event), counts=ours) as work:
            await self._handle(key, slot, work)

    async def _handle(self, key: tuple[Any, int], slot: _Slot, work: Work) -> None:
        try:
            with unless_set_aside(self.app, work, slot.event):
                await self._handler(slot.event)
        except LeftUnacked:
            return
        except Exception as fault:
            if not isinstance(fault, SetAside):
                metrics.UNEXPECTED_ERRORS.labels(where=self.name).inc()
                log.exception("unexpected error; the message is dead-lettered", agent=self.name)
            if not await self._bury(slot.event, fault):
                return
        slot.done = True
        await self._acknowledge_head(key)

    async def _bury(self, event: Any, fault: Exception) -> bool:
        try:
            await self._dead_letters.put_event(
                event,
                fault,
                keep_trying=lambda: is_ours(self.app, event),
                companions=lambda letter: self._companions(event, letter),
            )
        except LeftUnacked:
            return False
        return True

    async def _acknowledge_head(self, key: tuple[Any, int]) -> None:
        queue = self._queues.get(key)
        while queue and queue[0].done:
            slot = queue.popleft()
            if of_this_generation(self.app, slot.event):
                await self._stream.ack(slot.event)
        if queue is not None and not queue:
            self._queues.pop(key, None)

    def _drop_lost_generations(self) -> None:
        """Events of an earlier generation are delivered anew; their handlers may finish, their acks mean nothing."""
        for key in [key for key in self._queues if key[1] != self.app.consumer_generation_id]:
            del self._queues[key]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        metrics.INFLIGHT.labels(agent=self.name).set(len(self._running))
        self._moved.set()
        if not task.cancelled() and (fault := task.exception()) is not None:
            metrics.UNEXPECTED_ERRORS.labels(where=self.name).inc()
            log.error("a handler's own ending failed; its event comes again", agent=self.name, error=repr(fault))
