"""Bounded concurrent handling of a stream with acknowledgements in order.

An event is acknowledged only when it and every earlier event of the same partition and generation have finished. So
what Faust commits never covers unfinished work. Handlers run in any order; commits are in order. `limit` bounds
handlers running at once, `window` bounds finished-but-unacknowledged plus running events, and with it what is handled
again after a crash; `window_bytes` bounds the memory they take.

Every event is in one of the states of `SlotState`. In each state a handler works on it, or it waits for something that
will happen, or the process ends. If neither the handler nor the dead letter of an event succeeds, and the reason is not
in the event, the process ends: the worker must not look healthy while the event stays open.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from functools import partial
from typing import Any

import structlog

from vision_app.messages import DeadLetter, Message
from vision_app.telemetry import metrics, spans
from vision_app.telemetry.watch import Work

from .dead_letters import DeadLetters
from .faust_seams import Event, Stream, Worker, place_of, watch_of
from .last_resort import end_process
from .letter_ids import ids_in
from .ownership import LeftUnacked, becomes_ours, is_ours, of_this_generation
from .set_aside import SetAside, unless_set_aside

log = structlog.get_logger(__name__)

Handler = Callable[[Any], Awaitable[None]]
Companions = Callable[[Any, DeadLetter], Iterable[Message]]


WINDOW_BYTES = 64 * 1024 * 1024
"""Bytes of the values of one flow's un-acknowledged events. A single larger event is still accepted."""


class SlotState(StrEnum):
    """What is happening to an event."""

    WORKING = "working"
    """Its handler runs."""
    ENDING = "ending"
    """Its handler failed, and its dead letter is being written."""
    DONE = "done"
    """It has ended. It is acknowledged as soon as every earlier event of its partition has ended, too."""
    LEFT = "left"
    """It is left un-acknowledged, because the worker stops or the partition moves. It is redelivered."""


class Slot:
    """One event between its arrival and its acknowledgement."""

    __slots__ = ("bytes", "event", "state")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.bytes = len(event.value or b"")
        self.state = SlotState.WORKING

    @property
    def place(self) -> dict[str, Any]:
        at = self.event.message
        return {"topic": at.topic, "partition": at.partition, "offset": at.offset}


class InFlight:
    """Runs `handler` on up to `limit` events at once; call `run` as the body of an agent.

    When a handler returns, its event has ended. When it raises LeftUnacked, the event is redelivered. Any other
    exception dead-letters the event and sends the messages that `companions` makes of it. If that fails too, for a
    reason that is not in the event, the process ends.
    """

    def __init__(
        self,
        app: Worker,
        name: str,
        handler: Handler,
        dead_letters: DeadLetters,
        *,
        limit: int,
        window: int | None = None,
        window_bytes: int = WINDOW_BYTES,
        companions: Companions = lambda _event, _letter: (),
    ) -> None:
        self.app, self.name = app, name
        self._handler, self._dead_letters, self._companions = handler, dead_letters, companions
        self._limit, self._window, self._window_bytes = limit, window or limit * 8, window_bytes
        self._queues: dict[tuple[Any, int], deque[Slot]] = defaultdict(deque)
        self._running: set[asyncio.Task[None]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._slot_freed = asyncio.Event()
        self._stream: Any = None
        self._stage = watch_of(app).stage(name)

    async def run(self, stream: Stream) -> None:
        self._stream = stream.noack()
        try:
            async for event in self._stream.events():
                await self._wait_for_room()
                if not await becomes_ours(self.app, event):
                    continue  # un-acknowledged: it is redelivered
                self._begin(event)
        finally:
            if self.app.should_stop:
                await self._cancel_all()

    async def drain(self, seconds: float) -> None:
        """Wait up to `seconds` for running handlers. Those that wait for something raise LeftUnacked by themselves."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=seconds)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def slots(self) -> Iterable[Slot]:
        """The un-acknowledged events of this generation, the oldest of each partition first."""
        generation = self.app.consumer_generation_id
        return [slot for key, queue in self._queues.items() if key[1] == generation for slot in queue]

    def _begin(self, event: Event) -> None:
        slot, key = Slot(event), (event.message.tp, event.message.generation_id)
        self._queues[key].append(slot)
        task = asyncio.create_task(self._handle_watched(key, slot))
        self._running.add(task)
        metrics.INFLIGHT.labels(agent=self.name).set(len(self._running))
        task.add_done_callback(self._on_task_done)

    async def _cancel_all(self) -> None:
        """Cancel what still runs when the worker stops: the producer stops next, and nothing could be sent."""
        tasks = self._running | self._leaving
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait_for_room(self) -> None:
        while True:
            self._drop_lost_generations()
            self._stage.full = not self._has_room()
            if not self._stage.full:
                return
            self._slot_freed.clear()
            with contextlib.suppress(TimeoutError):
                # not wait_for: Python 3.11's may swallow a cancellation
                async with asyncio.timeout(self.app.times.poll):
                    await self._slot_freed.wait()

    def _has_room(self) -> bool:
        slots = sum(map(len, self._queues.values()))
        held = sum(slot.bytes for queue in self._queues.values() for slot in queue)
        return len(self._running) < self._limit and slots < self._window and held < self._window_bytes

    async def _handle_watched(self, key: tuple[Any, int], slot: Slot) -> None:
        ours = partial(of_this_generation, self.app, slot.event)
        with self._stage.work(place_of(slot.event), counts=ours) as work, spans.hop(self.name, slot.event):
            await self._handle_to_end(key, slot, work)

    async def _handle_to_end(self, key: tuple[Any, int], slot: Slot, work: Work) -> None:
        """Handle an event until it is acknowledged or left for redelivery, or end the process."""
        try:
            await self._handle(slot, work)
            slot.state = SlotState.DONE
            await self._acknowledge_head(key)
        except LeftUnacked:
            self._leave_unacknowledged(slot)
        except BaseException as fault:
            if _this_task_is_cancelled():  # the worker stops
                slot.state = SlotState.LEFT
                raise
            if is_ours(self.app, slot.event) and not self.app.should_stop:
                end_process("its handler and its dead letter failed", fault, agent=self.name, **slot.place)
            log.warning("event_handling_incomplete", agent=self.name, exc_info=fault)
            self._leave_unacknowledged(slot)

    async def _handle(self, slot: Slot, work: Work) -> None:
        """Returns when the event is handled or dead-lettered. Raises LeftUnacked."""
        try:
            with unless_set_aside(self.app, work, slot.event):
                await self._handler(slot.event)
        except LeftUnacked:
            raise
        except Exception as fault:
            if not isinstance(fault, SetAside):
                metrics.UNEXPECTED_ERRORS.labels(where=self.name).inc()
                log.exception("message_failed", agent=self.name, **ids_in(slot.event.value))
            slot.state = SlotState.ENDING
            await self._bury(slot.event, fault)

    async def _bury(self, event: Event, fault: Exception) -> None:
        await self._dead_letters.put_event(
            event,
            fault,
            keep_trying=lambda: is_ours(self.app, event),
            companions=lambda letter: self._companions(event, letter),
        )

    def _leave_unacknowledged(self, slot: Slot) -> None:
        """Leave an event un-acknowledged. End the process unless the worker stops or a new generation begins."""
        slot.state = SlotState.LEFT
        spans.note(left_unacknowledged=True)
        task = asyncio.create_task(self._end_process_if_ours(slot))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _end_process_if_ours(self, slot: Slot) -> None:
        if await becomes_ours(self.app, slot.event):
            end_process("an event was left although it is ours", agent=self.name, **slot.place)

    async def _acknowledge_head(self, key: tuple[Any, int]) -> None:
        queue = self._queues.get(key)
        while queue and queue[0].state is SlotState.DONE:
            slot = queue.popleft()
            if of_this_generation(self.app, slot.event):
                await self._stream.ack(slot.event)
        if queue is not None and not queue and self._queues.get(key) is queue:
            del self._queues[key]

    def _drop_lost_generations(self) -> None:
        """Forget events of earlier generations: they are redelivered. Running handlers may finish unacknowledged."""
        for key in [key for key in self._queues if key[1] != self.app.consumer_generation_id]:
            del self._queues[key]

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        metrics.INFLIGHT.labels(agent=self.name).set(len(self._running))
        self._slot_freed.set()


def _this_task_is_cancelled() -> bool:
    """Whether this task itself was cancelled, and not something that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
